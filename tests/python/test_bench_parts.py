"""What the benchmark is made of: timing, comparing, measuring in other processes."""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from segue import accuracy, machine, measure
from segue.timing import Spread, interleave, ratios

NAN, INF = float("nan"), float("inf")


def test_rounds_interleave_and_rotate() -> None:
    order: list[str] = []

    def call(name: str) -> None:
        order.append(name)
        time.sleep(0.003)

    rounds = interleave({n: partial(call, n) for n in "abc"}, 1.0, rounds=4)
    timed = order[6:]  # two calls each choose the repeats
    assert ["".join(timed[i : i + 3]) for i in range(0, 12, 3)] == ["abc", "bca", "cab", "abc"]
    assert {len(sample) for sample in rounds.values()} == {4}
    assert all(s >= 0.003 for sample in rounds.values() for s in sample)


def test_short_calls_are_repeated() -> None:
    calls = [0]

    def call() -> None:
        calls[0] += 1

    interleave({"a": call}, 1.0, rounds=1)
    assert calls[0] > 100


def test_rounds_end_with_the_time() -> None:
    start = time.perf_counter()
    rounds = interleave({"a": lambda: time.sleep(0.01)}, 0.1)
    assert 3 <= len(rounds["a"]) <= 11
    assert time.perf_counter() - start < 1.0


def test_ratios_are_per_round() -> None:
    # The machine becomes ten times slower; each round's ratio is still 2.
    rounds = {"old": [2.0, 2.0, 20.0], "new": [1.0, 1.0, 10.0]}
    assert ratios(rounds, "old", "new") == Spread(2.0, 2.0, 2.0)
    assert Spread.of([4.0]) == Spread(4.0, 4.0, 4.0)
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 5.0]) == Spread(3.0, 2.0, 4.0)


def test_differences() -> None:
    a = torch.tensor([1.0, NAN, INF, -INF])
    assert accuracy.max_abs_diff(a, a.clone()) == 0.0
    assert accuracy.max_abs_diff(a, torch.tensor([1.5, NAN, INF, -INF])) == 0.5
    for wrong in ([NAN, NAN, INF, -INF], [1.0, 0.0, INF, -INF], [1.0, NAN, -INF, -INF]):
        assert accuracy.max_abs_diff(a, torch.tensor(wrong)) == math.inf
    assert accuracy.max_abs_diff(torch.zeros(2), torch.zeros(3)) == math.inf
    assert accuracy.max_abs_diff(torch.zeros(0), torch.zeros(0)) == 0.0
    assert accuracy.max_abs_diff([torch.tensor([1])], [torch.tensor([2])]) == math.inf


def test_bits() -> None:
    zero = torch.tensor([0.0, NAN])
    assert accuracy.identical(zero, zero.clone())
    assert not accuracy.identical(zero, -zero)
    assert not accuracy.identical(zero, zero.double())
    assert not accuracy.identical(zero, [zero, zero])


def test_relative_error() -> None:
    truth = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert accuracy.relative_error(torch.tensor([3.0, 4.5]), truth) == pytest.approx(0.1)
    assert accuracy.relative_error(torch.tensor([3.0, NAN]), truth) == 0.0
    assert accuracy.relative_error(torch.ones(1), torch.zeros(1)) == math.inf
    assert accuracy.error_limit(1e-3, torch.ones(1)) == pytest.approx(1.1e-3)
    assert accuracy.error_limit(0.0, torch.ones(1)) == 2.0**-24
    assert accuracy.error_limit(0.0, torch.ones(1, dtype=torch.bfloat16)) == 2.0**-8
    assert accuracy.error_limit(0.0, torch.ones(1, dtype=torch.float64)) == 2.0**-49


def test_close_knows_dtypes() -> None:
    a = torch.ones(4)
    assert accuracy.close(a, a + 1e-5)
    assert not accuracy.close(a, a + 1e-3)
    assert accuracy.close(a.half(), (a + 1e-3).half())
    assert not accuracy.close(a, a.double())


def test_halves_may_be_nearer_to_the_truth_than_to_eager() -> None:
    truth = torch.tensor([0.1, 2.0], dtype=torch.float64)
    eager = torch.tensor([0.125, 2.0], dtype=torch.bfloat16)  # after an intermediate rounding
    fused = truth.to(torch.bfloat16)
    difference = accuracy.max_abs_diff(fused, eager)
    assert not accuracy.close(fused, eager)
    assert accuracy.nearer(fused, eager, truth, difference)
    assert not accuracy.nearer(fused, eager, truth, 0.2)  # elsewhere
    worse = torch.tensor([0.0625, 2.0], dtype=torch.bfloat16)
    assert not accuracy.nearer(worse, eager, truth, 0.0625)
    assert not accuracy.nearer(fused.float(), eager.float(), truth, difference)


def test_work_counts_a_convolution() -> None:
    module, x = nn.Conv2d(2, 4, 3, bias=False), torch.rand(1, 2, 6, 6)
    flops, moved = measure.work(module, [x], module(x))
    assert flops == 2 * 4 * 4 * 4 * 2 * 9
    assert moved == 4 * (2 * 36 + 4 * 2 * 9 + 4 * 16)


def test_floor_is_the_slower_of_two() -> None:
    best = machine.Ceilings(flops=10.0, bandwidth=5.0, how="")
    assert best.floor_seconds(100.0, 1.0) == 10.0
    assert best.floor_seconds(1.0, 100.0) == 20.0


def test_ceilings_are_plausible() -> None:
    best = machine.ceilings(size=256, image=20, copy_bytes=1 << 24)
    assert 1e8 < best.flops < 1e16
    assert 1e8 < best.bandwidth < 1e14


def test_smallest_inputs() -> None:
    small = measure.small_inputs(nn.Conv2d(2, 4, 3), [torch.rand(8, 2, 9, 40)])
    sizes = [tuple(inputs[0].shape) for inputs in small]
    assert sizes[0] == (1, 2, 3, 3)
    assert sizes[-1] == (1, 2, 9, 40)
    assert not list(measure.small_inputs(nn.Linear(3, 3), [torch.rand(2, 4)]))


def test_host_overhead() -> None:
    module = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Tanh()).eval()
    found = measure.host_overhead(module, [torch.rand(4, 2, 64, 64)])
    assert found is not None
    assert 0 <= found.host <= found.call
    assert found.eager > 0
    assert measure.host_overhead(nn.Identity(), [torch.rand(4, 2, 64, 64)]) is None


HUNGRY = """
import torch
from torch import nn


class Model(nn.Module):
    def forward(self, x):
        return x.repeat(16, 1).amax(0)


def get_inputs():
    return [torch.rand(8, 250_000)]
"""


@pytest.mark.skipif(not machine.reset_peak(), reason="the system keeps no resettable peak")
def test_peak_memory_is_what_a_call_holds(tmp_path: Path) -> None:
    path = tmp_path / "hungry.py"
    path.write_text(HUNGRY)
    peak = measure.peak_megabytes("eager", path, None, 1)
    assert peak is not None
    assert 127 < peak < 140  # 16 times 8 MB


def test_probe_says_what_failed(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(HUNGRY.replace("x.repeat", "x.surely_not"))
    with pytest.raises(measure.ProbeError, match="surely_not"):
        measure.peak_megabytes("eager", path, None, 1)


def test_probe_has_a_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "hungry.py"
    path.write_text(HUNGRY)
    monkeypatch.setattr(measure, "PROBE_SECONDS", 0.1)
    with pytest.raises(measure.ProbeError, match=r"more than 0\.1 s"):
        measure.peak_megabytes("eager", path, None, 1)


def test_startup_of_eager(tmp_path: Path) -> None:
    path = tmp_path / "hungry.py"
    path.write_text(HUNGRY)
    found = measure.startup("eager", path, None, 1)
    assert 0 < found.warm < 5
    assert found.cold < found.cold_from_start
