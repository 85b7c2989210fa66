"""Is the planner right? Random convolutions with random tails: eager PyTorch against Segue.

Every region is compiled even where the planner would leave it to PyTorch, so that both kinds of
mistake show: a region taken that is slower (the contract says never), and one refused that would
have been faster. Times are medians over interleaved rounds, one model after the other.

    python bench/survey.py [--cases N] [--seed N] [--dtype TYPE] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import segue
from segue.dropin import make_dropin
from segue.programs import Options

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIZES = {1: [16, 100, 1000, 8000], 2: [7, 14, 28, 56, 112], 3: [4, 8, 16, 32]}
ROUNDS, MILLISECONDS = 7, 4.0


def relu(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x)


def affine_gelu(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.gelu(x * 0.5 + 1.0)


def smallest(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(torch.amin(x, dim=1, keepdim=True))


def pooled(x: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(x.mean(dim=tuple(range(2, x.ndim))))


def softmax(x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(x, dim=1)


def nothing(x: torch.Tensor) -> torch.Tensor:
    return x


TAILS = [relu, affine_gelu, smallest, pooled, softmax, nothing]


class Case(nn.Module):
    """One convolution and one tail."""

    def __init__(self, rank: int, settings: dict[str, Any], tail: Any) -> None:
        super().__init__()
        self.convolution = CONVOLUTIONS[rank](**settings)
        self.tail = tail

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tail(self.convolution(x))


@dataclass(frozen=True)
class Limits:
    """How large cases may be; by default at most a fifth of a second of a processor's work."""

    batches: tuple[int, ...] = (1, 1, 4, 16)
    products: float = 2e10
    elements: float = 3e7
    device: str = "cpu"


def draw(source: random.Random, limits: Limits = Limits()) -> tuple[str, Case, torch.Tensor]:
    """A case, its name and its input."""
    while True:
        rank = source.choice([1, 2, 2, 2, 3])
        groups = source.choice([1, 1, 1, 1, 2, 4])
        channels = groups * source.choice([1, 3, 4, 8, 16, 32, 64, 128, 256])
        out = groups * source.choice([1, 2, 4, 8, 16, 24, 32, 64, 100, 128, 256])
        if source.random() < 0.1:  # depthwise
            groups = out = channels
        kernel = source.choice([1, 3, 3, 3, 5])
        stride = source.choice([1, 1, 1, 2])
        size = source.choice(SIZES[rank])
        batch = source.choice(limits.batches)
        if size < kernel:
            continue
        pixels = ((size - kernel) // stride + 1) ** rank
        products = 2.0 * batch * out * pixels * channels // groups * kernel**rank
        elements = batch * max(channels * size**rank, out * pixels)
        if not 1e5 < products < limits.products or elements > limits.elements:
            continue
        tail = source.choice(TAILS)
        settings = {
            "in_channels": channels,
            "out_channels": out,
            "kernel_size": kernel,
            "stride": stride,
            "padding": source.choice([0, kernel // 2]),
            "groups": groups,
        }
        name = (
            f"{rank}d {batch}x{channels}x{size} -> {out} k{kernel} s{stride} "
            f"p{settings['padding']} g{groups} {tail.__name__}"
        )
        shape = (batch, channels, *[size] * rank)
        case = Case(rank, settings, tail).to(limits.device)
        return name, case, torch.rand(shape, device=limits.device)


def time_both(eager: nn.Module, fused: nn.Module, x: torch.Tensor) -> tuple[float, float]:
    """Median milliseconds of eager and fused."""
    times: tuple[list[float], list[float]] = ([], [])
    calls = []
    for module in (eager, fused):
        module(x)
        start = time.perf_counter()
        module(x)
        calls.append(max(1, int(MILLISECONDS / 1e3 / (time.perf_counter() - start))))
    for _ in range(ROUNDS):
        for module, count, found in zip((eager, fused), calls, times, strict=True):
            start = time.perf_counter()
            for _ in range(count):
                module(x)
            found.append((time.perf_counter() - start) / count * 1e3)
    return statistics.median(times[0]), statistics.median(times[1])


def expectation(explained: str) -> dict[str, float]:
    """The cost model's milliseconds, for Segue and for PyTorch, as explain prints them."""
    found = re.search(r"expected ([0-9.]+) ms against ([0-9.]+) ms", explained)
    return {"expected_ms": float(found[1]), "expected_host_ms": float(found[2])} if found else {}


def survey(count: int, seed: int, dtype: torch.dtype) -> list[dict[str, Any]]:
    """Measures count cases; one object each."""
    source = random.Random(seed)
    rows = []
    for _ in range(count):
        name, case, x = draw(source)
        case, x = case.to(dtype), x.to(dtype)
        with torch.no_grad():
            fused = make_dropin(case, Options(always=True), "silent")
            chosen = segue.explain(case, x)
            eager_ms, fused_ms = time_both(case, fused, x)
        taken = chosen.kernels > 0
        row = {"case": name, "eager_ms": eager_ms, "segue_ms": fused_ms, "taken": taken}
        rows.append(row | expectation(segue.explain(fused, x)))
        ratio = eager_ms / fused_ms
        verdict = "" if taken == (ratio >= 1) else "   LOSS" if taken else "   missed"
        choice = "taken  " if taken else "refused"
        print(f"{ratio:6.2f}x {choice} {eager_ms:9.3f} ms  {name}{verdict}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    rows = survey(options.cases, options.seed, getattr(torch, options.dtype))
    losses = [r for r in rows if r["taken"] and r["segue_ms"] > r["eager_ms"]]
    missed = [r for r in rows if not r["taken"] and r["segue_ms"] < r["eager_ms"]]
    ratios = [r["eager_ms"] / r["segue_ms"] for r in rows if r["taken"]]
    print(
        f"{len(rows)} cases, {len(losses)} taken and slower, {len(missed)} refused and faster; "
        f"{statistics.geometric_mean(ratios or [1]):.2f}x where taken"
    )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
