"""Comparing results: with eager PyTorch, and with the same module in float64.

Errors are norm-wise and relative, ||y - ref|| / ||ref|| over every element of every tensor of a
result. A result is as good as eager's when its error is at most SLACK times eager's; below one
rounding of the result (half the spacing of its dtype) both are right and the ratio is a lottery,
so that is the floor of the limit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

SLACK = 1.1
# Of float64 there is no more exact truth: eager's own sums, in their own order, are that far off.
FLOAT64_ROUNDINGS = 16
# What users of such kernels compare with: atol = rtol, by dtype; 1e-4 for anything wider.
TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 1e-2}


def tensors(result: Any) -> list[Tensor]:
    """The tensors of a result, whatever tuples, lists and dictionaries hold them."""
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]


def nbytes(values: Iterable[Tensor]) -> int:
    """Bytes that tensors span, each element once."""
    return sum(t.numel() * t.element_size() for t in values)


def widen(value: Any) -> Any:
    """Floating tensors of a structure as float64; all else unchanged."""

    def one(x: Any) -> Any:
        return x.double() if isinstance(x, Tensor) and x.is_floating_point() else x

    return tree_map(one, value)


def reference(module: nn.Module, inputs: Sequence[Any]) -> Any:
    """What `module` computes when all of it is float64."""
    with torch.no_grad():
        return copy.deepcopy(module).double()(*widen(list(inputs)))


def relative_error(result: Any, truth: Any, mask: Any = None) -> float:
    """Norm-wise error of `result` against `truth`, where `mask` (default: both) is finite."""
    error = norm = 0.0
    masks = tensors(mask) if mask is not None else tensors(result)
    for y, ref, where in zip(tensors(result), tensors(truth), masks, strict=True):
        wide, ref = y.double(), ref.double()
        keep = wide.isfinite() & ref.isfinite() & where.isfinite()
        zero = torch.zeros((), dtype=torch.float64, device=wide.device)
        error += float(torch.where(keep, wide - ref, zero).square().sum())
        norm += float(torch.where(keep, ref, zero).square().sum())
    if norm == 0.0:
        return 0.0 if error == 0.0 else float("inf")
    return (error / norm) ** 0.5


def rounding(result: Any) -> float:
    """One rounding of the result: half the relative spacing of its coarsest floating dtype."""
    floating = {t.dtype for t in tensors(result) if t.is_floating_point()}
    scale = FLOAT64_ROUNDINGS if floating == {torch.float64} else 1
    return scale * max((torch.finfo(dtype).eps / 2 for dtype in floating), default=0.0)


def error_limit(eager_error: float, result: Any) -> float:
    """The largest error a replacement may have where eager's is `eager_error`."""
    return max(SLACK * eager_error, rounding(result))


def max_abs_diff(a: Any, b: Any) -> float:
    """Largest difference of two results; infinite where only one of them is a number."""
    worst = 0.0
    for x, y in zip(tensors(a), tensors(b), strict=True):
        if x.shape != y.shape:
            return float("inf")
        if x.numel() == 0:
            continue
        if not x.is_floating_point():
            worst = max(worst, 0.0 if torch.equal(x, y) else float("inf"))
            continue
        same = (x == y) | (x.isnan() & y.isnan())
        apart = torch.where(same, torch.zeros_like(x), (x - y).abs())
        worst = max(worst, float(apart.nan_to_num(nan=float("inf"), posinf=float("inf")).max()))
    return worst


def close(a: Any, b: Any) -> bool:
    """Whether two results agree as users of such kernels ask: allclose at the field's tolerance."""
    pairs = list(zip(tensors(a), tensors(b), strict=True))
    return all(_close(x, y) for x, y in pairs)


def nearer(result: Any, eager: Any, truth: Any, difference: float | None) -> bool:
    """Whether halves are as near to float64 everywhere as eager's, which rounds more often.

    So they may be further from eager's than anyone's tolerance, where eager's terms cancel. On more
    data than there is truth of, they differ from eager's by `difference` at most.
    """
    if any(x.dtype not in TOLERANCE for x in tensors(result) if x.is_floating_point()):
        return False
    allowed = max_abs_diff(eager, truth)
    near = max_abs_diff(result, truth) <= SLACK * allowed
    return near and difference is not None and difference <= 4 * allowed


def _close(x: Tensor, y: Tensor) -> bool:
    tolerance = TOLERANCE.get(y.dtype, 1e-4)
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    return torch.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True)


def identical(a: Any, b: Any) -> bool:
    """Whether two results are equal bit for bit, signs of zeros and NaN included."""
    return len(tensors(a)) == len(tensors(b)) and all(
        x.shape == y.shape and x.dtype == y.dtype and _same_bits(x, y)
        for x, y in zip(tensors(a), tensors(b), strict=True)
    )


def _same_bits(x: Tensor, y: Tensor) -> bool:
    if not x.is_floating_point():
        return torch.equal(x, y)
    same = (x == y) & (x.signbit() == y.signbit()) | (x.isnan() & y.isnan())
    return bool(same.all())
