"""`match` reads the class of numbers off a convolution that rounds its operands."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from segue import _core, precision
from segue.precision import FP32, TF32, TF32_EVEN, Convolution


def rounded(x: Tensor, add: int, even: bool) -> Tensor:
    """Values of x with 11 significant bits; add: what carries, less one where even is the rule."""
    bits = x.contiguous().view(torch.int32)
    carry = add + ((bits >> 13) & 1 if even else 0)
    return ((bits + carry) & ~0x1FFF).view(torch.float32)


ROUNDINGS = {
    FP32: lambda x: x,
    TF32: lambda x: rounded(x, 0x1000, False),
    TF32_EVEN: lambda x: rounded(x, 0x0FFF, True),
    "cut off": lambda x: rounded(x, 0, False),
}


class Library:
    """torch.ops.aten.convolution as a library that rounds operands its own way."""

    def __init__(self, rounding: str) -> None:
        self._round = ROUNDINGS[rounding]
        self._real = torch.ops.aten.convolution.default
        self.calls = 0

    def __call__(self, x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        self.calls += 1
        return self._real(self._round(x), self._round(weight), *rest)


@pytest.fixture(autouse=True)
def no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Probes run on the CPU, on a card of no name."""

    class Card:
        name, major, minor, multi_processor_count = "none", 9, 0, 1

    device = torch.device
    monkeypatch.setenv("SEGUE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch, "device", lambda *_: device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Card)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 1)
    precision.forget()
    yield
    precision.forget()


def library(monkeypatch: pytest.MonkeyPatch, rounding: str) -> Library:
    made = Library(rounding)
    monkeypatch.setattr(torch.ops.aten.convolution, "default", made)
    return made


def contiguous(*sizes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return sizes, torch.empty(sizes).stride()


def case(x: Any, weight: Any, bias: bool = True, **given: Any) -> Convolution:
    """A convolution of contiguous tensors of these sizes, or of (sizes, strides)."""
    x, weight = (t if isinstance(t[0], tuple) else contiguous(*t) for t in (x, weight))
    count = len(weight[0]) - 2
    one, zero = (1,) * count, (0,) * count
    stride, padding = given.get("stride", one), given.get("padding", zero)
    dilation, groups = given.get("dilation", one), given.get("groups", 1)
    aligned = given.get("aligned", True)
    return Convolution(x, weight, bias, stride, padding, dilation, groups, aligned)


CASES = {
    "plain": case((2, 3, 9, 8), (4, 3, 3, 3)),
    "padded, one pixel": case((1, 2, 1, 1), (3, 2, 3, 3), False, padding=(1, 1)),
    "mostly padding": case(
        (1, 2, 3, 3), (3, 2, 3, 3), stride=(2, 3), padding=(7, 7), dilation=(2, 1)
    ),
    "groups": case(
        (2, 6, 5, 5), (4, 3, 2, 2), stride=(2, 2), padding=(1, 0), dilation=(1, 2), groups=2
    ),
    "strides": case(((2, 3, 7, 6), (0, 1, 40, 4)), ((5, 3, 2, 3), (18, 1, 9, 3))),
    "3d, misaligned": case((1, 3, 4, 5, 6), (2, 3, 2, 3, 1), aligned=False),
    "1d": case((2, 1, 30), (1, 1, 5), padding=(2,)),
}


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", CASES)
def test_probe(name: str, rounding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library(monkeypatch, rounding)
    expected = rounding if rounding in precision.CLASSES else FP32
    state = torch.get_rng_state()
    assert precision.probe(CASES[name], 0) == expected
    assert torch.equal(torch.get_rng_state(), state)


def test_an_answer_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = library(monkeypatch, TF32_EVEN)
    for _ in range(2):
        assert precision.class_of(CASES["plain"], 0) == TF32_EVEN
    assert asked.calls == 2
    precision.forget()  # another process
    assert precision.class_of(CASES["plain"], 0) == TF32_EVEN
    assert asked.calls == 2
    assert precision.class_of(CASES["groups"], 0) == TF32_EVEN
    assert asked.calls == 4


def test_switches_decide_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = library(monkeypatch, TF32)
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=False, allow_tf32=False
    ):
        assert precision.class_of(CASES["plain"], 0) == FP32
    assert asked.calls == 0
    before = precision.switches()
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=True, deterministic=False, allow_tf32=True
    ):
        assert precision.switches() != before
        assert precision.class_of(CASES["plain"], 0) == TF32
    precision.forget()  # what was chosen by benchmarking is no other process's
    assert precision.class_of(CASES["plain"], 0) == TF32
    assert asked.calls == 4


def test_a_failing_library_counts_as_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.ops.aten.convolution, "default", fail)
    assert precision.class_of(CASES["plain"], 0) == FP32


def test_halfway_numbers_are_halfway() -> None:
    for value in precision._HALFWAY:
        (bits,) = struct.unpack("<i", struct.pack("<f", value))
        assert bits & 0x1FFF == 0x1000


# ---- plain_tf32 --------------------------------------------------------------------------------


def plan_of(name: str, dtype: str = "f32") -> str:
    """How a convolution that every family takes is planned for a GPU with warpgroup products."""
    sizes = [(8, 64, 66, 66), (64, 64, 3, 3)]
    text = f"""graph g {{
  %x = input : {dtype}{list(sizes[0])}
  %w = input : {dtype}{list(sizes[1])}
  %y = convolution %x, %w {{stride=[1, 1], padding=[0, 0], dilation=[1, 1]}}
  %z = tanh %y
  output %z
}}"""
    inputs = [(dtype, *contiguous(*each)) for each in sizes]
    made = _core.Program(_core.Graph(text), inputs, gpu="sm_90a", precision=name, always=True)
    return made.explain()


def test_plain_tf32_carries_nothing_in_halves() -> None:
    assert "strategy wgmma" in plan_of("tf32")
    plain = plan_of("plain_tf32")
    assert "strategy wgmma" not in plain
    assert "anchor in plain_tf32" in plain
    assert "strategy wgmma" in plan_of("plain_tf32", "f16")  # its operands are halves themselves


def test_any_switch_that_allows_tf32_makes_it_worth_asking() -> None:
    switches = list(precision.switches())
    for conv, matmul, allowed in (
        ("ieee", "ieee", False), ("none", "none", False), ("tf32", "ieee", True),
        ("ieee", "tf32", True), (True, False, True), (False, False, False),
    ):  # fmt: skip
        switches[4:6] = [conv, matmul]
        assert precision._tf32_allowed(switches) == allowed


SETTERS: dict[str, tuple[Any, Any]] = {
    "backends.fp32_precision": ("tf32", "ieee"),
    "backends.cudnn.fp32_precision": ("tf32", "ieee"),
    "backends.cudnn.conv.fp32_precision": ("ieee", "tf32"),
    "backends.cuda.matmul.fp32_precision": ("tf32", "ieee"),
    "backends.cudnn.allow_tf32": (False, True),
    "backends.cuda.matmul.allow_tf32": (True, False),
}


@pytest.fixture
def fresh_switches() -> Iterator[None]:
    """Nothing said of convolutions, so that they follow what is; afterwards PyTorch's defaults."""
    torch.backends.cudnn.allow_tf32 = False
    yield
    if hasattr(torch.backends, "fp32_precision"):
        torch.backends.fp32_precision = "none"
        torch.backends.cudnn.fp32_precision = "none"
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = True


@pytest.mark.parametrize("name", SETTERS)
def test_every_spelling_of_a_switch_is_seen(name: str, fresh_switches: None) -> None:
    *path, last = name.split(".")
    holder: Any = torch
    for part in path:
        holder = getattr(holder, part, None)
    if holder is None or not hasattr(holder, last):
        pytest.skip("this PyTorch has no such switch")
    seen = []
    for value in SETTERS[name]:
        setattr(holder, last, value)
        seen.append(precision.switches())
    assert seen[0] != seen[1]


def test_matmul_precision_is_seen(fresh_switches: None) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")
        strict = precision.switches()
        torch.set_float32_matmul_precision("high")
        assert precision.switches() != strict
    finally:
        torch.set_float32_matmul_precision(before)
