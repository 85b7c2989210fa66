"""Compiled programs, and what a caller may choose of how they are compiled."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from . import _core, cache, cuda
from .lower import DTYPES
from .precision import MATCH
from .trace import Layout

CoreLayout = tuple[str, tuple[int, ...], tuple[int, ...]]

PROGRAMS_MAX = 256


@dataclass(frozen=True)
class Options:
    """What a caller may choose."""

    always: bool = False  # run regions even where PyTorch's operators are expected to be faster
    isa: str | None = None
    tune: bool = False  # measure the candidate plans, and remember the best
    precision: str = MATCH  # of float32 convolutions on GPUs: "match" or a class of precision.py
    strategy: str | None = None  # on GPUs: the one to take


@dataclass(frozen=True)
class Target:
    """What a program is compiled for: the CPU, or a GPU."""

    device: int = -1
    precision: str | None = None  # of the anchor; None where its dtype leaves no choice
    alignment: int = cuda.ALIGNMENT  # bytes


def core_layout(layout: Layout) -> CoreLayout:
    """A tensor's layout as the library takes it; SegueError for other dtypes."""
    shape, stride, dtype, _ = layout
    if dtype not in DTYPES:
        raise _core.SegueError(f"a tensor of {dtype} is not taken; float and bool tensors are")
    return DTYPES[dtype], tuple(shape), stride


class _Programs:
    """Compiled programs by everything that goes into one; the least recently used goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Any, _core.Program | str] = OrderedDict()
        self._lock = threading.Lock()
        self._wisdom: str | None = None  # as it was when last loaded or saved

    def _keep_wisdom(self) -> None:
        """Writes plans that compiling found by measuring."""
        wisdom = _core.wisdom_export()
        if wisdom != self._wisdom:
            self._wisdom = wisdom
            cache.save_wisdom()

    def get(
        self,
        graph: _core.Graph,
        inputs: Iterable[CoreLayout],
        outputs: Iterable[CoreLayout],
        options: Options,
        target: Target,
    ) -> _core.Program | str:
        """The program, ready to run, or the sentence that says why it is not applicable."""
        inputs, outputs = tuple(inputs), tuple(outputs)
        threads = torch.get_num_threads() if target.device < 0 else 0
        key = (graph.text(), inputs, outputs, threads, options, target)
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                if self._wisdom is None:
                    cache.load_wisdom()
                    self._wisdom = _core.wisdom_export()
                try:
                    found = _compile(graph, inputs, outputs, threads, options, target)
                except _core.NotApplicable as reason:
                    found = str(reason)
                self._kept[key] = found
                self._keep_wisdom()
                if len(self._kept) > PROGRAMS_MAX:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
        if isinstance(found, str) or target.device < 0:
            return found
        return self._built(key, found, target.device)

    def _built(self, key: Any, program: _core.Program, device: int) -> _core.Program | str:
        """Builds now and not at the first launch, which a CUDA graph may be capturing.

        Outside the lock: several threads may build at once.
        """
        try:
            program.build(device)
        except (_core.SegueError, OSError) as error:
            reason = str(error).split("\n", 1)[0]  # a compiler's other lines are for developers
            with self._lock:
                self._kept[key] = reason
            return reason
        return program


def _compile(
    graph: _core.Graph,
    inputs: tuple[CoreLayout, ...],
    outputs: tuple[CoreLayout, ...],
    threads: int,
    options: Options,
    target: Target,
) -> _core.Program:
    if target.device < 0:
        return _core.Program(
            graph, inputs, outputs, threads, options.isa, options.always, options.tune
        )
    cuda.use_nvrtc()
    return _core.Program(
        graph,
        inputs,
        outputs,
        always=options.always,
        tune=options.tune,
        gpu=str(target.device),
        precision=target.precision,
        alignment=target.alignment,
        strategy=options.strategy,
    )


programs = _Programs()
