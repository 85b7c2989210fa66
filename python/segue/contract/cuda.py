"""GPUs: streams, graphs and devices, as code written for PyTorch's expects them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from segue.accuracy import close
from segue.modelfile import describe

from .compare import agree, call, detached, near
from .point import BrokenError, InapplicableError, demand, point
from .subject import Pair, Subject

# Cycles of a kernel that does nothing else: about 50 ms at 2 GHz, longer than any call tried here.
NAP = 100_000_000
WARM_UP = 3  # calls before a capture, as torch.cuda.make_graphed_callables makes them
THREADS = 4
ON_CPU = "the model is tried on the CPU; --device cuda is for GPUs"


def _device(subject: Subject) -> torch.device:
    device = torch.device(subject.file.device)
    if device.type != "cuda":
        raise InapplicableError(ON_CPU)
    return device


def _kept(result: Any) -> Any:
    """A copy made by the stream that is current."""
    return tree_map(lambda t: t.clone() if isinstance(t, torch.Tensor) else t, result)


def _on_stream(pair: Pair, subject: Subject, nap: Callable[[torch.cuda.Stream], None]) -> Any:
    """What a side stream sees when it writes the inputs, calls and copies the result.

    `nap` puts one stream to sleep beforehand. Returns the copy and what it should be.
    """
    held, values = subject.inputs(81), subject.inputs(82)
    wanted = call(pair.new, detached(values)).result
    side = torch.cuda.Stream(_device(subject))
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):  # allocating may wait for the GPU: let there be memory
            _kept(call(pair.new, held).result)
        torch.cuda.synchronize()
        nap(side)
        for x, y in zip(held, values, strict=True):
            if isinstance(x, torch.Tensor):
                x.copy_(y)
        got = _kept(call(pair.new, held).result)
    side.synchronize()
    seen = _kept(got)
    torch.cuda.synchronize()
    return seen, wanted


@point("GPU", "work goes to the current stream")
def stream(subject: Subject) -> str:
    """Inputs are written late, on a side stream: another stream would read what was there."""
    _device(subject)
    for pair, who in ((Pair(*[subject.pair.eager] * 2), "the original"), (subject.pair, "")):

        def nap(side: torch.cuda.Stream) -> None:
            with torch.cuda.stream(side):
                torch.cuda._sleep(NAP)

        got, wanted = _on_stream(pair, subject, nap)
        if who and not close(got, wanted):
            raise InapplicableError("the original itself does not follow the current stream")
        demand(close(got, wanted), "inputs were read before the current stream had written them")
    return "inputs written late on a side stream"


@point("GPU", "results are ready for the current stream")
def ready(subject: Subject) -> str:
    """The default stream sleeps: what waits for it, or runs there, comes too late."""
    device = _device(subject)

    def nap(_: torch.cuda.Stream) -> None:
        with torch.cuda.stream(torch.cuda.default_stream(device)):
            torch.cuda._sleep(NAP)

    got, wanted = _on_stream(subject.pair, subject, nap)
    demand(close(got, wanted), "the current stream read the result before it was there")
    return "the default stream asleep"


@point("GPU", "a call does not wait for the GPU")
def asynchronous(subject: Subject) -> str:
    """Nor does one that follows another; the processor goes on while the GPU works."""
    _device(subject)
    inputs = subject.inputs(83)
    for module, who in ((subject.pair.eager, "original"), (subject.pair.new, "replacement")):
        for _ in range(WARM_UP):
            result = call(module, inputs).result
        torch.cuda.synchronize()
        del result
        torch.cuda._sleep(NAP)
        asleep = torch.cuda.Event()
        asleep.record()
        call(module, inputs)
        waited = asleep.query()
        torch.cuda.synchronize()
        if waited and module is subject.pair.eager:
            raise InapplicableError("the original waits for the GPU")
        demand(not waited, f"the {who} waited until the GPU had finished earlier work")
    return ""


def _captured(module: nn.Module, inputs: list[Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
    """A call as a CUDA graph, after calls on a side stream that prepare what is to be prepared."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.no_grad():
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                module(*inputs)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = module(*inputs)
    return graph, result


@point("GPU", "a CUDA graph captures a call")
def graphs(subject: Subject) -> str:
    """Replays follow other inputs in the same memory, and parameters changed in place."""
    _device(subject)
    pair, inputs = subject.fresh_pair(), subject.inputs(84)
    try:
        _captured(pair.eager, inputs)
    except Exception as error:
        what = f"the original cannot be captured: {describe(error)}"
        raise InapplicableError(what) from None
    try:
        graph, result = _captured(pair.new, inputs)
    except Exception as error:
        raise BrokenError(f"capturing raised {describe(error)}") from error

    def replay(where: str) -> None:
        graph.replay()
        torch.cuda.synchronize()
        demand(close(result, call(pair.new, inputs).result), f"{where}: not what a call gives")
        demand(near(result, call(pair.eager, inputs).result), f"{where}: not the original's")

    replay("first replay")
    for seed in (85, 86):
        for x, y in zip(inputs, subject.inputs(seed), strict=True):
            if isinstance(x, torch.Tensor):
                x.copy_(y)
        replay("replay with other inputs")
    with torch.no_grad():
        for module in (pair.eager, pair.new):
            for p in module.parameters():
                p.mul_(1.5)
    replay("replay with other parameters")
    return "4 replays"


@point("GPU", "several threads with a stream each")
def threads(subject: Subject) -> str:
    """Each gets what it gets alone."""
    device = _device(subject)
    pair, inputs = subject.pair, [subject.inputs(87 + i) for i in range(THREADS)]
    alone = [_kept(call(pair.new, x).result) for x in inputs]
    torch.cuda.synchronize()

    def repeat(index: int) -> bool:
        side = torch.cuda.Stream(device)
        with torch.cuda.device(device), torch.cuda.stream(side):
            got = [_kept(call(pair.new, inputs[index]).result) for _ in range(THREADS)]
        side.synchronize()
        return all(close(g, alone[index]) for g in got)

    with ThreadPoolExecutor(THREADS) as pool:
        good = list(pool.map(repeat, range(THREADS)))
    demand(all(good), f"{good.count(False)} of {THREADS} threads got something else")
    return f"{THREADS} threads"


@point("GPU", "a second GPU")
def second_device(subject: Subject) -> str:
    """Made there while the first one is current; and moved there after a call on the first."""
    _device(subject)
    if torch.cuda.device_count() < 2:
        raise InapplicableError("there is one GPU here")
    there = torch.device("cuda", 1)

    def moved(inputs: list[Any]) -> list[Any]:
        return [x.to(there) if isinstance(x, torch.Tensor) else x for x in inputs]

    said = agree(subject.fresh_pair(lambda m: m.to(there)), moved(subject.inputs(91)), "made there")
    pair = subject.fresh_pair()
    agree(pair, subject.inputs(92), "before the move")
    pair.eager.to(there)
    pair.new.to(there)
    agree(pair, moved(subject.inputs(93)), "moved there")
    return said
