"""Measurements of one model that go beyond timing calls: memory, start-up, host overhead, floor."""

from __future__ import annotations

import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .accuracy import nbytes, tensors
from .dropin import make_dropin
from .lower import DTYPES
from .modelfile import with_batch
from .programs import Options
from .state import RUNTIME
from .timing import Run, interleave

PACKAGE = Path(__file__).resolve().parent
PROBE_SECONDS = 600
HOST_SECONDS = 0.5
SMALL_SIDES = range(1, 65)


class ProbeError(Exception):
    """A measurement in a process of its own failed; the message is one sentence."""


@dataclass(frozen=True)
class Startup:
    """Seconds to the first result with a fresh cache folder and with the one that left behind."""

    cold: float
    warm: float
    cold_from_start: float
    warm_from_start: float


def startup(contender: str, path: Path, batch: int | None, threads: int) -> Startup:
    """Times the first result of a new process, twice, in one new cache folder."""
    with tempfile.TemporaryDirectory(prefix="segue-bench-") as folder:
        caches = {
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
            "TRITON_CACHE_DIR": f"{folder}/triton",
            "SEGUE_CACHE_DIR": f"{folder}/segue",
        }
        cold = probe("startup", contender, path, batch, threads, caches)
        warm = probe("startup", contender, path, batch, threads, caches)
    return Startup(cold["from_import"], warm["from_import"], cold["from_start"], warm["from_start"])


def peak_megabytes(contender: str, path: Path, batch: int | None, threads: int) -> float | None:
    """Most memory, in MB, that a call holds beyond inputs, parameters and outputs."""
    peak = probe("memory", contender, path, batch, threads, {})["peak"]
    return None if peak is None else peak / 1e6


def probe(
    what: str,
    contender: str,
    path: Path,
    batch: int | None,
    threads: int,
    environment: dict[str, str],
) -> dict[str, Any]:
    """Runs probe.py in a new process and returns what it prints."""
    request = {
        "what": what,
        "contender": contender,
        "path": str(path),
        "batch": batch,
        "threads": threads,
        "folder": str(PACKAGE),
        "started": time.monotonic(),
    }
    # runpy keeps this package's folder off sys.path, where its modules would shadow others.
    program = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    search = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, str(PACKAGE / "probe.py"), json.dumps(request)],
            capture_output=True,
            text=True,
            check=False,
            timeout=PROBE_SECONDS,
            env={**os.environ, **environment, "PYTHONPATH": search.rstrip(os.pathsep)},
        )
    except subprocess.TimeoutExpired as error:
        what = f"{contender} took more than {PROBE_SECONDS} s in a process of its own."
        raise ProbeError(what) from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ProbeError(f"{contender} did not run in a process of its own: {last}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def work(module: nn.Module, inputs: Sequence[Any], result: Any) -> tuple[float, float]:
    """Floating-point operations of a call, as PyTorch counts them, and the bytes it cannot avoid.

    The bytes are inputs, parameters and outputs, each moved once.
    """
    state = [*module.parameters(), *module.buffers()]
    moved = nbytes(tensors(list(inputs))) + nbytes(state) + nbytes(tensors(result))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        try:
            _on_meta(module, inputs)
        except Exception:
            module(*inputs)
    return float(counter.get_total_flops()), float(moved)


def flops_of(module: nn.Module, inputs: Sequence[Any]) -> float:
    """Floating-point operations of a call, without making it; 0 when it cannot be said."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        try:
            _on_meta(module, inputs)
        except Exception:
            return 0.0
    return float(counter.get_total_flops())


def _on_meta(module: nn.Module, inputs: Sequence[Any]) -> None:
    twin = copy.deepcopy(module).to("meta")
    twin(*(x.to("meta") if isinstance(x, torch.Tensor) else x for x in inputs))


def small_inputs(module: nn.Module, inputs: Sequence[Any]) -> Iterator[list[Any]]:
    """One element of the batch, cut to the images that the module accepts, smallest first."""
    single = with_batch(list(inputs), 1)
    for side in SMALL_SIDES:
        small = [_cut(x, side) for x in single]
        try:
            with torch.no_grad():
                module(*small)
        except Exception:  # noqa: S112  (too small for this module: try the next)
            continue
        yield small


@dataclass(frozen=True)
class Overhead:
    """Microseconds of calls on the smallest input."""

    host: float  # of a call beyond its program; where several parts run, all of it
    call: float
    eager: float


def host_overhead(module: nn.Module, inputs: Sequence[Any]) -> Overhead | None:
    """Times a call on the smallest input, and its program by itself.

    Segue leaves such inputs to PyTorch where that is faster; here it must run what it can. None
    when it can run nothing.
    """
    small = next(small_inputs(module, inputs), None)
    if small is None:
        return None
    fused = make_dropin(copy.deepcopy(module), Options(always=True), "silent")
    with torch.no_grad():
        for _ in range(2):
            fused(*small)
        entries = fused.__dict__[RUNTIME].calls.entries if RUNTIME in fused.__dict__ else []
        if not any(entry.program or entry.runner for entry in entries):
            return None
        program = next((entry.program for entry in entries if entry.program), None)
        functions: dict[str, Run] = {
            "call": partial(fused, *small),
            "program": _alone(program) if program else _nothing,
            "eager": partial(module, *small),
        }
        rounds = interleave(functions, HOST_SECONDS)
    pairs = zip(rounds["call"], rounds["program"], strict=True)
    beyond = statistics.median(call - alone for call, alone in pairs)
    middle = {name: statistics.median(sample) * 1e6 for name, sample in rounds.items()}
    return Overhead(max(0.0, beyond * 1e6), middle["call"], middle["eager"])


def _nothing() -> None:
    return None


def _alone(program: Any) -> Run:
    """Runs a program on memory of its own, laid out as compiled."""
    dtypes = {name: dtype for dtype, name in DTYPES.items()}
    inputs, outputs = (
        [
            torch.empty_strided(sizes, strides, dtype=dtypes[name]).fill_(1)
            for name, sizes, strides in s
        ]
        for s in (program.inputs, program.outputs)
    )
    sources, targets = [x.data_ptr() for x in inputs], [x.data_ptr() for x in outputs]
    threads = torch.get_num_threads()

    def run(_memory: object = (inputs, outputs)) -> None:
        program.run(sources, targets, threads)

    return run


def _cut(x: Any, side: int) -> Any:
    if not isinstance(x, torch.Tensor) or x.dim() < 3:
        return x
    keep = (slice(None), slice(None), *[slice(0, side)] * (x.dim() - 2))
    return x[keep].clone()
