"""What tests of the Python package share: forced drop-ins, and how close is close enough."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from segue import _core
from segue.dropin import make_dropin
from segue.prepare import Runtime
from segue.programs import Options
from segue.state import RUNTIME

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def forced(module: nn.Module) -> nn.Module:
    """A drop-in that runs fused whatever the planner expects."""
    return make_dropin(module, Options(always=True), "silent")


def runtime_of(dropin: nn.Module) -> Runtime:
    """What Segue prepared for a drop-in."""
    found: Runtime = dropin.__dict__[RUNTIME]
    return found


def newest(dropin: nn.Module) -> _core.Entry:
    """The entry used last."""
    return runtime_of(dropin).calls.entries[0]


def fused(dropin: nn.Module) -> bool:
    """Whether the last call ran programs of Segue's."""
    entry = newest(dropin)
    return entry.program is not None or entry.runner is not None


def assert_fused(dropin: nn.Module) -> None:
    """The last call must have run programs of Segue's; says why not."""
    assert fused(dropin), runtime_of(dropin).reason


def in_double(module: nn.Module, inputs: tuple[Any, ...]) -> Any:
    """The truth: the original in float64."""
    double = copy.deepcopy(module).double()
    with torch.no_grad():
        return double(*(as_double(x) for x in inputs))


def as_double(x: Any) -> Any:
    """Floating tensors in float64."""
    return x.double() if isinstance(x, Tensor) and x.is_floating_point() else x


def assert_same_layout(actual: Tensor, expected: Tensor) -> None:
    """Shape, dtype, device and strides."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    assert actual.device == expected.device
    assert actual.stride() == expected.stride()


def assert_as_good(actual: Tensor, eager: Tensor, truth: Tensor, roundings: float = 2) -> None:
    """Layout as eager's, NaNs and infinities too, and the error no larger than eager's.

    roundings: units in the last place, of the largest value, that are always granted.
    """
    assert_same_layout(actual, eager)
    if actual.dtype == torch.bool:
        assert torch.equal(actual, eager)
        return
    a, e, t = actual.double(), eager.double(), truth.double()
    # What overflows in this dtype need not in float64: eager says what is infinite.
    assert torch.equal(a.isnan(), e.isnan()), "NaNs differ"
    infinite = e.isinf() | a.isinf()
    assert torch.equal(a[infinite], e[infinite]), "infinities differ"
    finite = e.isfinite() & t.isfinite()
    if not finite.any():
        return
    a, e, t = a[finite], e[finite], t[finite]
    scale = t.abs().amax()
    granted = roundings * torch.finfo(actual.dtype).eps * scale + torch.finfo(actual.dtype).tiny
    error, allowed = (a - t).abs().amax(), (e - t).abs().amax()
    assert error <= 1.25 * allowed + granted, f"error {error:.3g}, eager's {allowed:.3g}"
