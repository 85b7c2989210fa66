"""Drop-ins called under torch.autocast: what eager gives there, compiled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dropins
import segue

HALVES = [torch.bfloat16, torch.float16]


class Model(nn.Module):
    """A convolution and a tail."""

    def __init__(self, tail: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.shift = nn.Parameter(torch.randn(8, 1, 1))
        self.tail = tail

    def forward(self, x: Tensor) -> Any:
        return self.tail(self.conv(x), self.shift)


def not_here(y: Tensor, shift: Tensor) -> Tensor:
    """Matrix products in float32, whatever is on outside."""
    with torch.autocast("cpu", enabled=False):
        rows = y.float().flatten(2)
        return torch.tanh(torch.bmm(rows, rows.transpose(1, 2)) * 0.01) + shift.flatten(1)


TAILS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "stays half": lambda y, shift: torch.tanh(y * 2.0).amin(1, keepdim=True),
    "promoted by a parameter": lambda y, shift: torch.relu(y + shift),
    "softmax": lambda y, shift: torch.softmax(y, 1),
    "sum in float32": lambda y, shift: torch.sum(y * 0.5, dim=(2, 3), dtype=torch.float32),
    "operators that PyTorch runs": lambda y, shift: F.max_pool2d(torch.relu(y), 2) + shift,
    "a loss in float32": lambda y, shift: F.mse_loss(torch.sigmoid(y), torch.zeros_like(y)),
    "off inside": not_here,
    "two results": lambda y, shift: (y.amax(1), [torch.sigmoid(y) * shift]),
}


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 9, 11)


def leaves(result: Any) -> list[Tensor]:
    return [x for x in torch.utils._pytree.tree_leaves(result) if isinstance(x, Tensor)]


def assert_same(actual: Any, expected: Any, dtype: torch.dtype) -> None:
    """dtype and strides to the letter; values as near as roundings of this dtype come."""
    near = 8 * torch.finfo(dtype).eps
    for a, e in zip(leaves(actual), leaves(expected), strict=True):
        dropins.assert_same_layout(a, e)
        torch.testing.assert_close(a, e, rtol=near, atol=near)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("tail", TAILS)
def test_results(tail: str, dtype: torch.dtype, x: Tensor) -> None:
    model = Model(TAILS[tail])
    fast = dropins.forced(model)
    with torch.no_grad():
        plain = model(x)
        for _ in range(2):  # in and out: each has its entry
            with torch.autocast("cpu", dtype):
                assert_same(fast(x), model(x), dtype)
                dropins.assert_fused(fast)
            assert_same(fast(x), plain, torch.float32)
    assert len(dropins.runtime_of(fast).calls.entries) == 2


def test_sums_told_a_dtype_are_segues(x: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        explained = segue.explain(dropins.forced(Model(TAILS["sum in float32"])), x)
    assert "run by PyTorch" not in explained
    assert "= cast %mul {dtype=f32}" in explained.graph


def test_casts_that_say_where_are_segues() -> None:
    """As PyTorch's own are, in operators that convert what they take."""

    class Cast(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            here = {"layout": torch.strided, "device": x.device, "pin_memory": False}
            wide = torch.ops.aten._to_copy.default(x * 2.0, dtype=torch.float32, **here)
            return torch.softmax(wide, 1)

    x = torch.randn(2, 8, 9, 9, dtype=torch.bfloat16)
    fast = dropins.forced(Cast())
    assert "run by PyTorch" not in segue.explain(fast, x)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), Cast()(x))


def test_each_dtype_has_its_entry(x: Tensor) -> None:
    model = Model(TAILS["stays half"])
    fast = dropins.forced(model)
    with torch.no_grad():
        for dtype in (*HALVES, *HALVES):
            with torch.autocast("cpu", dtype):
                assert fast(x).dtype == dtype
        with torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False):
            assert fast(x).dtype == torch.float32
    assert len(dropins.runtime_of(fast).calls.entries) == 3


def test_another_devices_autocast_changes_nothing(x: Tensor) -> None:
    fast = dropins.forced(Model(TAILS["stays half"]))
    before = torch.is_autocast_enabled("cuda")
    with torch.no_grad():
        expected = fast(x)
        torch.set_autocast_enabled("cuda", True)
        try:
            assert torch.equal(fast(x), expected)
            dropins.assert_fused(fast)
        finally:
            torch.set_autocast_enabled("cuda", before)


def test_gradients(x: Tensor) -> None:
    model = Model(TAILS["promoted by a parameter"])
    fast = dropins.forced(model)
    found = []
    for each in (model, fast, fast):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            result = each(x)
        result.square().sum().backward()  # outside, as PyTorch advises
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for gradients in found[1:]:
        for a, e in zip(gradients, found[0], strict=True):
            torch.testing.assert_close(a, e, rtol=2e-2, atol=2e-2 * float(e.abs().max()))


def test_weights_that_autocast_keeps_are_eagers(x: Tensor) -> None:
    model = Model(TAILS["stays half"])
    fast = dropins.forced(model)
    with torch.autocast("cpu", torch.bfloat16):
        first = model(x)  # PyTorch keeps the cast weights until the end of the block
        assert_same(fast(x), first, torch.bfloat16)
        assert torch.equal(model(x), first)
    assert torch.is_autocast_cache_enabled()


def test_preparing_and_explaining_inside(x: Tensor) -> None:
    model = Model(TAILS["stays half"])
    with torch.autocast("cpu", torch.bfloat16):
        fast = segue.optimize(model, x, fallback="silent")
        explained = segue.explain(dropins.forced(model), x)
    assert ": bf16[" in explained.graph
    assert ": bf16[" not in segue.explain(dropins.forced(model), x).graph
    (entry,) = dropins.runtime_of(fast).calls.entries
    assert entry.setting == ((torch.bfloat16, None), None)


# ---- segue.use_precision -----------------------------------------------------------------------


def test_a_named_class_is_a_setting_of_the_thread(x: Tensor) -> None:
    fast = dropins.forced(Model(TAILS["stays half"]))
    told: list[Any] = []

    def call() -> None:
        with torch.no_grad():
            fast(x)
        told.append(dropins.newest(fast).setting)

    with segue.use_precision("plain_tf32"):
        call()
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        with segue.use_precision("match"):
            call()
    call()
    assert told == [(None, "plain_tf32"), None, (None, "match"), None]


@pytest.mark.parametrize("name", ["half", "", "TF32"])
def test_an_unknown_class_is_refused(name: str) -> None:
    with (
        pytest.raises(ValueError, match="accepted: match, fp32, tf32, tf32_even, plain_tf32"),
        segue.use_precision(name),
    ):
        pass
