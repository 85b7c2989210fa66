"""Never slower than eager? Random convolutions with random tails on a GPU.

For each case the drop-in as users get it is timed against eager PyTorch, by events on the GPU with
its cache flushed, and by the clock of the host over calls in a row, which small cases depend on.
Regions that the planner leaves to PyTorch are timed forced as well, so that both kinds of mistake
show.

    python bench/survey_gpu.py [--cases N] [--seed N] [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from survey import Case, Limits, draw
from torch import nn

import segue
from segue import gpu_clock
from segue.dropin import make_dropin
from segue.programs import Options

LIMITS = Limits((1, 4, 16, 64, 128), products=3e11, elements=1e8, device="cuda")
TOLERATED = 1.02  # a ratio nearer to one is noise
CALLS = 20


@dataclass
class Prepared:
    """A case, ready to be timed."""

    name: str
    eager: Case
    x: torch.Tensor
    chosen: nn.Module  # as users get it
    forced: nn.Module
    explained: str
    taken: bool


def prepare(drawn: tuple[str, Case, torch.Tensor]) -> Prepared:
    """Compiles both drop-ins of a case."""
    name, case, x = drawn
    with torch.no_grad():
        chosen = segue.optimize(case, x, fallback="silent")
        forced = make_dropin(case, Options(always=True), "silent")
        for module in (chosen, forced):
            module(x)
        explanation = segue.explain(chosen, x)
    return Prepared(name, case, x, chosen, forced, str(explanation), explanation.kernels > 0)


def in_a_row(module: nn.Module, x: torch.Tensor) -> float:
    """Seconds a call of several, host and GPU together."""
    found = []
    for _ in range(5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(CALLS):
            module(x)
        torch.cuda.synchronize()
        found.append((time.perf_counter() - start) / CALLS)
    return statistics.median(found)


def measure(case: Prepared, rounds: int) -> dict[str, Any]:
    """Times and errors of one case."""
    modules = {"eager": case.eager, "segue": case.chosen, "forced": case.forced}
    if case.taken:
        del modules["forced"]
    with torch.no_grad():
        expected, actual = case.eager(case.x), case.chosen(case.x)
        calls = {name: lambda m=module: m(case.x) for name, module in modules.items()}
        samples = gpu_clock.interleave(calls, 1.0, rounds)
        row = {name: [s * 1e3 for s in found] for name, found in samples.items()}
        result: dict[str, Any] = {
            f"{name}_ms": statistics.median(found) for name, found in row.items()
        }
        result |= {
            f"{name}_row_ms": in_a_row(modules[name], case.x) * 1e3 for name in ("eager", "segue")
        }
    scale = float(expected.abs().max())
    result["difference"] = float((actual - expected).abs().max()) / max(scale, 1e-30)
    return {"case": case.name, "taken": case.taken, **result, "explained": case.explained}


def survey(count: int, seed: int, rounds: int) -> list[dict[str, Any]]:
    """Prepares all cases on threads, then measures one after the other."""
    source = random.Random(seed)
    torch.manual_seed(seed)
    drawn = [draw(source, LIMITS) for _ in range(count)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        cases = list(pool.map(prepare, drawn))
    rows = []
    for case in cases:
        row = measure(case, rounds)
        rows.append(row)
        ratio, in_row = row["eager_ms"] / row["segue_ms"], row["eager_row_ms"] / row["segue_row_ms"]
        slower = case.taken and min(ratio, in_row) * TOLERATED < 1
        missed = not case.taken and row["forced_ms"] * TOLERATED < row["eager_ms"]
        said = "   SLOWER" if slower else "   missed" if missed else ""
        what = next((x for x in case.explained.split() if x.startswith(NAMES)), "-")
        print(
            f"{ratio:6.2f}x {in_row:6.2f}x {'taken  ' if case.taken else 'refused'} "
            f"{row['eager_ms']:8.4f} ms {row['difference']:8.1e} {what:15s} {case.name}{said}",
            flush=True,
        )
    return rows


NAMES = ("wgmma_", "mma", "implicit_gemm", "direct", "stream")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    rows = survey(options.cases, options.seed, options.rounds)
    taken = [r for r in rows if r["taken"]]
    slower = [r for r in taken if r["segue_ms"] > TOLERATED * r["eager_ms"]]
    slower_row = [r for r in taken if r["segue_row_ms"] > TOLERATED * r["eager_row_ms"]]
    missed = [r for r in rows if not r["taken"] and TOLERATED * r["forced_ms"] < r["eager_ms"]]
    ratios = [r["eager_ms"] / r["segue_ms"] for r in taken]
    print(
        f"{len(rows)} cases, {len(taken)} taken: {statistics.geometric_mean(ratios or [1]):.2f}x "
        f"there; {len(slower)} taken and slower on the GPU, {len(slower_row)} in a row; "
        f"{len(missed)} refused and faster"
    )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
