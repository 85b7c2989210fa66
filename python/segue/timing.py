"""Timing of several functions against one another, in interleaved rounds.

A machine's speed drifts with heat, neighbours and memory. Every round therefore runs each function
once, in an order that rotates, and a speedup is the median of the rounds' own ratios.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Run = Callable[[], object]

ROUNDS_MIN = 3
SAMPLE_SECONDS = 0.002  # a sample repeats its call until it lasts at least this long


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of a sample."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(sample: list[float]) -> Spread:
        """The spread of at least one value."""
        if len(sample) < 2:
            return Spread(sample[0], sample[0], sample[0])
        low, median, high = statistics.quantiles(sample, n=4, method="inclusive")
        return Spread(median, low, high)


Rounds = dict[str, list[float]]


def interleave(
    functions: Mapping[str, Run],
    seconds: float,
    rounds: int | None = None,
    progress: Callable[[float], None] | None = None,
    synchronize: Run | None = None,
) -> Rounds:
    """Seconds of one call of each function, round by round.

    Runs `rounds` rounds, or as many as fit in `seconds` (three at least). `progress` is told the
    fraction done. Every function must have been called before: nothing is warmed up here beyond
    the calls that choose how often a short function is repeated.
    """
    finish = synchronize or _nothing
    counts = {name: _repeats(run, finish) for name, run in functions.items()}
    names = list(functions)
    samples: Rounds = {name: [] for name in names}
    start, done = time.perf_counter(), 0
    while not _finished(done, rounds, time.perf_counter() - start, seconds):
        for name in names[done % len(names) :] + names[: done % len(names)]:
            samples[name].append(_sample(functions[name], counts[name], finish))
        done += 1
        if progress:
            spent = (time.perf_counter() - start) / seconds
            progress(min(1.0, done / rounds if rounds else spent))
    return samples


def ratios(rounds: Rounds, over: str, under: str) -> Spread:
    """Spread of the per-round ratios of two functions' times."""
    pairs = zip(rounds[over], rounds[under], strict=True)
    return Spread.of([a / b for a, b in pairs])


def _finished(done: int, rounds: int | None, spent: float, seconds: float) -> bool:
    if rounds is not None:
        return done >= rounds
    return done >= ROUNDS_MIN and spent >= seconds


def _repeats(run: Run, finish: Run) -> int:
    once = min(_sample(run, 1, finish) for _ in range(2))
    return max(1, int(SAMPLE_SECONDS / max(once, 1e-7)))


def _sample(run: Run, count: int, finish: Run) -> float:
    finish()
    start = time.perf_counter()
    for _ in range(count):
        run()
    finish()
    return (time.perf_counter() - start) / count


def _nothing() -> None:
    return None
