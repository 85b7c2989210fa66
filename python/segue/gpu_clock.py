"""Times and memory of calls on a GPU.

A call is timed between two events of its stream, after the cache of the GPU has been flushed and
while the GPU is kept busy, so that what the host does to launch it is not part of the time unless
it takes longer than that. Host time and memory are measured apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .accuracy import tensors
from .timing import ROUNDS_MIN, Rounds, Run

BUSY_CYCLES = 600_000  # about 0.3 ms: long enough to launch a few dozen operators
MM_SIZE = 8192
COPY_BYTES = 1 << 30
HOST_CALLS, HOST_WARM_CALLS, HOST_SECONDS = 20, 3, 0.3


@dataclass(frozen=True)
class Ceilings:
    """The best rates measured on a GPU."""

    half: float  # operations a second of fp16 products; a multiply and an add count as two
    tf32: float
    fp32: float
    bandwidth: float  # bytes read plus bytes written a second

    def floor_seconds(self, precision: str, flops: float, moved: float) -> float:
        """No program on this card does the work faster; fp32 takes three fp16 products."""
        products = 3 if precision == "fp32" else 1
        return max(products * flops / self.half, moved / self.bandwidth)


def interleave(
    functions: Mapping[str, Run],
    seconds: float,
    rounds: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Rounds:
    """Seconds of one call of each function, round by round; each has been called before."""
    flush = torch.empty(_flush_bytes() // 4, device="cuda")
    names = list(functions)
    samples: Rounds = {name: [] for name in names}
    start, done = time.perf_counter(), 0
    while not (
        done >= rounds
        if rounds is not None
        else done >= ROUNDS_MIN and time.perf_counter() - start >= seconds
    ):
        turn = done % len(names)
        for name in names[turn:] + names[:turn]:
            samples[name].append(_seconds(functions[name], flush))
        done += 1
        if progress:
            spent = (time.perf_counter() - start) / seconds
            progress(min(1.0, done / rounds if rounds else spent))
    return samples


def _flush_bytes() -> int:
    """Writing so much leaves nothing else in the cache."""
    return max(4 * torch.cuda.get_device_properties().L2_cache_size, 64 << 20)


def _seconds(run: Run, flush: torch.Tensor) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    flush.zero_()
    torch.cuda._sleep(BUSY_CYCLES)
    begin.record()
    result = run()
    end.record()
    end.synchronize()
    del result
    return begin.elapsed_time(end) / 1e3


def host_seconds(run: Run) -> float:
    """What a call takes of the host, which does not wait for the GPU."""
    best, begun, samples = float("inf"), time.perf_counter(), 0
    while samples < 5 or time.perf_counter() - begun < HOST_SECONDS:
        samples += 1
        torch.cuda.synchronize()
        for _ in range(HOST_WARM_CALLS):  # the first wakes the GPU
            run()
        start = time.perf_counter()
        for _ in range(HOST_CALLS):
            run()
        best = min(best, (time.perf_counter() - start) / HOST_CALLS)
    torch.cuda.synchronize()
    return best


def extra_bytes(run: Callable[[], Any]) -> int:
    """The most memory that a call holds beyond what was there and its results."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = run()
    torch.cuda.synchronize()
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage() for x in tensors(result)}
    own = sum(s.nbytes() for s in storages.values())
    return max(0, torch.cuda.max_memory_allocated() - before - own)


def ceilings() -> Ceilings:
    """Measures the rates of this card, in about a second."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = True
        tf32 = _product_rate(MM_SIZE, torch.float32)
        torch.backends.cuda.matmul.allow_tf32 = False
        fp32 = _product_rate(MM_SIZE // 2, torch.float32)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    return Ceilings(_product_rate(MM_SIZE, torch.float16), tf32, fp32, _copy_rate())


def _copy_rate() -> float:
    source = torch.zeros(COPY_BYTES // 4, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / _fastest(lambda: target.copy_(source))


def _product_rate(size: int, dtype: torch.dtype) -> float:
    a, b = (torch.rand(size, size, dtype=dtype, device="cuda") for _ in range(2))
    product = torch.empty_like(a)
    return 2.0 * size**3 / _fastest(lambda: torch.mm(a, b, out=product))


def _fastest(run: Run, tries: int = 8) -> float:
    run()
    flush = torch.empty(1, device="cuda")
    return min(_seconds(run, flush) for _ in range(tries))
