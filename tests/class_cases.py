"""Random convolutions of every class of numbers, and the error that docs/numerics.md grants each.

Inputs have magnitudes side by side that their dtype can hold, infinities and NaN; tails are such
that a bound before them gives one behind them. Nothing here needs a GPU.
"""

from __future__ import annotations

import dataclasses
import math
import random
import re

import torch
from torch import Tensor

import gpu_cases
from gpu_cases import Case, Step
from segue import _core


@dataclasses.dataclass(frozen=True)
class Class:
    """A class of numbers: dtype of the tensors, class of the anchor, and what it grants."""

    dtype: str
    precision: str
    sums: float  # error of sums, relative to the sum of magnitudes
    rounding: float  # of the result, relative
    magnitudes: tuple[float, ...]  # of inputs
    # What carrying operands in halves may cost of the largest input in a segment (GPUs).
    carrier: float = 0.0


_WIDE = (1.0, 1e30, 1e-30, 1e5, 1e-6, 1e-40, 0.0)
CLASSES = {
    "fp32": Class("f32", "fp32", 3e-6, 2.0**-24, _WIDE, 2.0**-28),
    "tf32": Class("f32", "tf32", 1e-5, 2.0**-24, _WIDE, 2.0**-18),
    "tf32_even": Class("f32", "tf32_even", 1e-5, 2.0**-24, _WIDE, 2.0**-18),
    "plain_tf32": Class("f32", "plain_tf32", 1e-5, 2.0**-24, _WIDE),
    "fp16": Class("f16", "fp32", 1e-5, 2.0**-11, (1.0, 100.0, 1e-3, 1e-7, 0.0)),
    "bf16": Class("bf16", "fp32", 1e-5, 2.0**-8, (1.0, 1e30, 1e-30, 1e-40, 0.0)),
    "fp64": Class("f64", "fp32", 1e-14, 2.0**-52, (1.0, 1e200, 1e-200, 1e-310, 0.0)),
}
FAMILIES = tuple(name for name in gpu_cases.FAMILIES if name != "stream")
TAILS = (
    (Step("unary", "neg"),),
    (Step("scalar", "mul", 2.0), Step("reduce", "amin", axis=1)),
    (Step("unary", "relu"), Step("scalar", "mul", -0.5)),
    (Step("reduce", "amax", axis=1), Step("unary", "neg")),
)
CARRIER_OF_WEIGHTS = 2.0**-32
VARIANTS = 3  # sizes that share a source


def family_of(number: int) -> str:
    """The strategy that a case is drawn for, if it will have it."""
    return FAMILIES[number // VARIANTS % len(FAMILIES)]


def draw(name: str, number: int) -> Case:
    """A case of a class; three that follow each other differ in sizes and layouts alone."""
    kind, draw = CLASSES[name], random.Random(f"{name} {number // VARIANTS}")
    family = family_of(number)
    template = gpu_cases.draw_template(family, 1000 + number // VARIANTS)
    tail = draw.choice(TAILS)
    template = dataclasses.replace(
        template, dtype=kind.dtype, precision=kind.precision, bias=False, tail=tail, also=-1
    )
    draw = random.Random(f"{name} {number}")
    batch = draw.choice([1, 2, 3, 5])
    lists = zip(template.dilation, template.kernel, template.padding, strict=True)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in lists]
    image = tuple(n + draw.choice([0, 1, 2, 7, 13, 30]) for n in least)
    while gpu_cases.flops(template, batch, image) > gpu_cases.FLOPS_MAX and list(image) != least:
        image = tuple(max(n // 2, m) for n, m in zip(image, least, strict=True))
    return gpu_cases.make_case(template, batch, image, draw)


def inputs_of(
    name: str, number: int, case: Case, device: torch.device, generator: torch.Generator
) -> list[Tensor]:
    """Inputs of mixed magnitudes; NaN and infinities in every third case."""
    kind, draw = CLASSES[name], random.Random(f"{name} {number} values")
    inputs = gpu_cases.values(case, device, generator)
    x = inputs[0]
    own = x[:1] if case.inputs[0][2][0] == 0 else x  # an expanded batch is one image
    chosen = draw.sample(kind.magnitudes, draw.choice([1, 2, 3]))
    scales = torch.tensor(chosen, dtype=torch.float64, device=device)
    # By image, or by patches of four pixels along each axis.
    patches = [own.shape[0], 1] + [1] * case.template.rank
    if draw.random() < 0.6:
        patches[2:] = [(n + 3) // 4 for n in own.shape[2:]]
    picks = torch.randint(len(chosen), patches, generator=generator, device=device)
    for axis in range(2, own.dim()):
        if patches[axis] > 1:
            picks = picks.repeat_interleave(4, axis).narrow(axis, 0, own.shape[axis])
    own.copy_((own.double() * scales[picks]).clamp(*_limits(own.dtype)))
    if draw.random() < 1 / 3:
        for value in (math.nan, math.inf, -math.inf):
            place = tuple(draw.randrange(n) for n in own.shape)
            own[place] = value
    return inputs


def _limits(dtype: torch.dtype) -> tuple[float, float]:
    info = torch.finfo(dtype)
    return info.min, info.max


def compiled(case: Case, gpu: str | None = None, family: str | None = None) -> _core.Program:
    """The program for a GPU, by a strategy that takes it or by the planner's; or for the CPU."""
    if gpu is None:
        return _core.Program(_core.Graph(case.text), case.inputs, case.outputs, always=True)
    try:
        return case.compile(family, gpu)
    except _core.NotApplicable:
        return case.compile(None, gpu)


def strategy_of(program: _core.Program) -> str:
    """The strategy of a program's only region."""
    found = re.search(r"strategy (\w+)", program.explain())
    return found.group(1) if found else ""


def problem(name: str, case: Case, strategy: str, actual: Tensor, inputs: list[Tensor]) -> str:
    """What is wrong with a result; "" when it keeps the class's promise."""
    wanted, allowed = expected(name, case, strategy, inputs)
    got = actual.double()
    largest = torch.finfo(actual.dtype).max
    if got.shape != wanted.shape:
        return f"the result is {tuple(got.shape)}, not {tuple(wanted.shape)}"
    if not torch.equal(got.isnan(), wanted.isnan()):
        return "NaNs are elsewhere"
    over = wanted.abs() - allowed > largest  # infinite whatever the rounding
    if not torch.equal(got[over], wanted[over].sign() * math.inf):
        return "infinities are elsewhere"
    sure = wanted.abs() + allowed < largest
    error = (got - wanted).abs() / allowed
    worst = float(error[sure].nan_to_num(math.inf).max()) if bool(sure.any()) else 0.0
    return "" if worst <= 1.0 else f"an error is {worst:.3g} times what is allowed"


def expected(name: str, case: Case, strategy: str, inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The result in float64, of operands rounded as the class has it, and the error allowed."""
    kind, t = CLASSES[name], case.template
    precision = "tf32" if kind.precision == "plain_tf32" else kind.precision
    a, b = (gpu_cases.rounded(x, precision).double() for x in inputs)
    value = gpu_cases.convolved(t, a, b, None)
    a, b = (x.nan_to_num(0.0, 0.0, 0.0).abs() for x in (a, b))
    allowed = kind.sums * gpu_cases.convolved(t, a, b, None)
    products = math.prod(case.inputs[1][1][1:])
    allowed += products * (5e-324 if kind.dtype == "f64" else 2.0**-133)
    if kind.carrier and strategy in gpu_cases.CARRIED:  # a segment lies in one image
        largest = a.amax(tuple(range(1, a.dim())), keepdim=True).expand_as(a)
        allowed += kind.carrier * gpu_cases.convolved(t, largest, b, None)
        heaviest = b.amax(tuple(range(1, b.dim())), keepdim=True).expand_as(b)
        allowed += CARRIER_OF_WEIGHTS * gpu_cases.convolved(t, a, heaviest, None)
    for step in t.tail:
        value, allowed = _tail(step, value, allowed)
    allowed += kind.rounding * value.abs().nan_to_num(0.0, 0.0, 0.0)
    smallest = {"f16": 2.0**-24, "f64": 5e-324}.get(kind.dtype, 2.0**-133)
    return value, allowed + smallest


def _tail(step: Step, value: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    if step.kind == "scalar":
        return value * step.number, allowed * abs(step.number)
    if step.kind == "reduce":
        made = getattr(value, step.name)(step.axis, keepdim=True)
        return made, allowed.amax(step.axis, keepdim=True)
    return gpu_cases.unary(step.name, value), allowed
