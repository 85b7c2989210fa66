"""What Segue makes of a module, in words: `segue.explain`."""

from __future__ import annotations

from typing import Any

from torch import nn

from .dropin import make_dropin
from .prepare import DropIn, Runtime
from .programs import Options
from .runtime import Plan, StepReport
from .state import RUNTIME

_CLASSES = {
    "fp32": "fp32",
    "tf32": "tf32 (operands rounded to 11 bits, halves away from zero; float32 sums)",
    "tf32_even": "tf32_even (operands rounded to 11 bits, halves to even; float32 sums)",
    "plain_tf32": "plain_tf32 (as tf32, with the range of float32 for every operand)",
}
# Families of kernels that carry float32 operands as halves, and what that costs an element at most
# of the largest beside it (docs/numerics.md).
_CARRIES = "strategy wgmma_"
_LOST = {"fp32": "2^-28", "tf32": "2^-18", "tf32_even": "2^-18"}


class Explanation(str):
    """The text, and what it was made from.

    graph: the captured computation in text form, "" when there is none. kernels: the number of
    fused kernels. flops, bytes: of one run of them. reason: why nothing was captured or runs,
    else "".
    """

    __slots__ = ("bytes", "flops", "graph", "kernels", "reason")

    graph: str
    kernels: int
    flops: float
    bytes: float
    reason: str


def explain(module: nn.Module, *example_inputs: Any, **example_kwargs: Any) -> Explanation:
    """Says what is captured of module for these inputs, what runs fused, what does not and why.

    Runs forward() once. module may be a drop-in or an ordinary module.
    """
    options = Options()
    if isinstance(module, DropIn):
        options = module.__dict__[RUNTIME].options
    made = make_dropin(module, options, "silent")
    if made is module:
        return _explanation(None, "its class cannot be extended, so that PyTorch runs all of it")
    runtime: Runtime = made.__dict__[RUNTIME]
    runtime.prepare_for(made, example_inputs, example_kwargs)
    return _explanation(runtime.last, runtime.reason)


def _explanation(plan: Plan | None, reason: str) -> Explanation:
    lines: list[str] = []
    kernels, flops, moved = 0, 0.0, 0.0
    if plan is not None:
        for number, step in enumerate((s for s in plan.steps if s.operators), 1):
            who = "Segue" if step.program else "PyTorch"
            lines.append(f"Step {number}, run by {who}: {', '.join(step.operators)}")
            if step.program is not None:
                work = step.program.work()
                kernels += work["kernels"]
                flops += work["flops"]
                moved += work["bytes"]
                lines += [f"    {line}" for line in step.program.explain().rstrip().split("\n")]
            if step.precision:
                lines.append(f"    Precision: {_CLASSES[step.precision]}")
                lines += _range(step)
            if step.reason:
                kind = "The region ends here because" if step.program else "Because"
                lines.append(f"    {kind}: {step.reason}")
    heads = []
    if reason:
        heads.append(f"PyTorch runs all of it: {reason}.")
    if kernels:
        heads.append(
            f"{kernels} fused kernel{'s' if kernels > 1 else ''}; "
            f"{flops / 1e9:.3g} Gflop and {moved / 1e6:.3g} MB a run at least."
        )
    text = plan.lowered.text if plan is not None else ""
    parts = [*heads, "", *lines] if lines else heads
    if text:
        parts += ["", "The captured graph:", *(f"    {x}" for x in text.rstrip().split("\n"))]
    made = Explanation("\n".join(parts) + "\n")
    made.graph, made.kernels, made.flops, made.bytes, made.reason = (
        text, kernels, flops, moved, reason,
    )  # fmt: skip
    return made


def _range(step: StepReport) -> list[str]:
    """What becomes of numbers that are small beside others, where that is not a float32's way."""
    if step.program is None or _CARRIES not in step.program.explain():
        return []
    lost = _LOST.get(step.precision or "")
    if lost is None:
        return []
    instead = "" if step.precision == "fp32" else "; class plain_tf32 keeps them"
    return [
        f"    Range: beside a number X of the same image, {lost} X and less may be lost{instead}"
    ]
