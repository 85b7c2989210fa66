"""Calling original and replacement on the same inputs and comparing what happens."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from segue.accuracy import SLACK, close, reference, relative_error, rounding, tensors

from . import tf32
from .point import BrokenError, demand
from .subject import Pair

PLAINLY_WRONG = 4.0  # times eager's error
NEAR = 2e-3  # norm-wise; TF32 rounds its operands by up to 5e-4
ROUNDINGS = 16  # of the result, where eager's error happens to be nothing


@dataclass(frozen=True)
class Outcome:
    """A call's result, or the exception it raised."""

    result: Any = None
    error: Exception | None = None


@dataclass
class Errors:
    """Squares of relative errors over several calls; pooled, they say more than one call's."""

    eager: float = 0.0
    new: float = 0.0
    floor: float = 0.0
    calls: int = 0

    def add(self, eager: float, new: float, floor: float) -> None:
        """Adds one call's."""
        self.eager += eager**2
        self.new += new**2
        self.floor = max(self.floor, floor)
        self.calls += 1

    def judge(self, where: str) -> str:
        """Breaks the point when the replacement's error is beyond eager's limit."""
        count = max(self.calls, 1)
        eager, new = (self.eager / count) ** 0.5, (self.new / count) ** 0.5
        said = f"error {new:.2g}, eager's {eager:.2g}"
        limit = max(SLACK * eager, self.floor)
        demand(new <= limit, f"{where}: {said} (one rounding: {self.floor:.2g})")
        return said


def call(module: nn.Module, inputs: Sequence[Any], **keywords: Any) -> Outcome:
    """One call without gradients, on copies that keep the strides of the inputs."""
    try:
        with torch.no_grad():
            return Outcome(module(*inputs, **keywords))
    except Exception as error:
        return Outcome(error=error)


def near(new: Any, eager: Any) -> bool:
    """Whether two results are the same but for rounding, in TF32 or not."""
    return close(new, eager) or relative_error(new, eager) <= NEAR


def same_refusal(eager: Outcome, new: Outcome, where: str) -> bool:
    """Whether the original refuses; breaks the point unless the replacement does the same."""
    if eager.error is None:
        if new.error is not None:
            raise BrokenError(
                f"{where}: raised {_named(new.error)}, the original returns a result"
            ) from new.error
        return False
    wanted = type(eager.error)
    if new.error is None:
        raise BrokenError(f"{where}: returned a result, the original raises {wanted.__name__}")
    demand(
        isinstance(new.error, wanted),
        f"{where}: raised {_named(new.error)}, the original {wanted.__name__}",
    )
    return True


def same_form(eager: Any, new: Any, where: str) -> None:
    """Structure, shape, dtype and device of a result."""
    demand(tree_flatten(eager)[1] == tree_flatten(new)[1], f"{where}: results differ in structure")
    for a, b in zip(tensors(eager), tensors(new), strict=True):
        shapes = f"{tuple(b.shape)}, the original {tuple(a.shape)}"
        demand(a.shape == b.shape, f"{where}: shape {shapes}")
        demand(a.dtype == b.dtype, f"{where}: dtype {b.dtype}, the original {a.dtype}")
        demand(a.device == b.device, f"{where}: device {b.device}, the original {a.device}")


def same_strides(eager: Any, new: Any, where: str) -> None:
    """Strides of a result; an empty tensor's say nothing."""
    for a, b in zip(tensors(eager), tensors(new), strict=True):
        if a.numel():
            strides = f"{b.stride()}, the original {a.stride()}"
            demand(a.stride() == b.stride(), f"{where}: strides {strides}")


def same_specials(eager: Any, new: Any, truth: Any, where: str) -> None:
    """NaN where the original has NaN, the same infinities, and equal values of other types.

    PyTorch gives two answers in places: oneDNN leaves padding out of its sums, so that 0 * NaN is
    never formed there, and the float32 gelu of infinity is NaN. Where the original differs from
    itself in float64 (truth), either answer is right.
    """
    for a, b, t in zip(tensors(eager), tensors(new), tensors(truth), strict=True):
        if not a.is_floating_point():
            demand(torch.equal(a, b), f"{where}: {int((a != b).sum())} values differ")
            continue
        for name, special in (
            ("NaN", torch.isnan),
            ("+inf", torch.isposinf),
            ("-inf", torch.isneginf),
        ):
            ours, theirs = special(b), special(a)
            wrong = int(((ours != theirs) & (ours != special(t.to(a.dtype)))).sum())
            counts = f"{int(ours.sum())} {name}, the original {int(theirs.sum())}"
            demand(wrong == 0, f"{where}: {counts} ({wrong} elements differ)")


def own_error(eager: nn.Module, inputs: Sequence[Any], result: Any, truth: Any) -> float:
    """Eager's error against float64; where it may be in TF32, at least what that costs."""
    error = relative_error(result, truth)
    if not tf32.allowed(inputs):
        return error
    return max(error, relative_error(tf32.reference(eager, inputs), truth, mask=result))


def agree(pair: Pair, inputs: Sequence[Any], where: str, pool: Errors | None = None) -> str:
    """Both refuse alike, or both return the same form, special values and nearly the same numbers.

    With `pool` the errors are added to it, and judged by the caller. Without, only errors that no
    order of summation explains count: one call on few elements says little about accuracy, which
    has points of its own.
    """
    eager, new = call(pair.eager, detached(inputs)), call(pair.new, detached(inputs))
    if same_refusal(eager, new, where):
        return "refused as by the original"
    same_form(eager.result, new.result, where)
    truth = reference(pair.eager, inputs)
    same_specials(eager.result, new.result, truth, where)
    own = own_error(pair.eager, inputs, eager.result, truth)
    error = relative_error(new.result, truth, mask=eager.result)
    floor = rounding(eager.result)
    if pool is not None:
        pool.add(own, error, floor)
        return ""
    said = f"error {error:.2g}, eager's {own:.2g}"
    limit = max(PLAINLY_WRONG * own, ROUNDINGS * floor)
    demand(error <= limit, f"{where}: {said}")
    return said


def detached(inputs: Sequence[Any]) -> list[Any]:
    """Copies of the inputs with the same strides, so that no call sees another's changes."""
    return list(tree_map(lambda x: copy_of(x) if isinstance(x, Tensor) else copy.copy(x), inputs))


def copy_of(x: Tensor) -> Tensor:
    """A tensor with the same values, sizes, strides and offset in memory of its own."""
    whole = x.detach().as_strided((x.untyped_storage().nbytes() // x.element_size(),), (1,), 0)
    return whole.clone().as_strided(x.shape, x.stride(), x.storage_offset())


def _named(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}({lines[0][:100]!r})"
