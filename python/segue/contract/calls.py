"""Calls: nothing is changed, remembered or shared that the original does not."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn, profiler
from torch.autograd import profiler_legacy

from segue.accuracy import close, identical, tensors

from .compare import agree, call, copy_of, detached
from .point import InapplicableError, demand, point
from .subject import Subject, batches

REPEATS = 5
THREADS = 4


@point("calls", "inputs are not changed")
def inputs_kept(subject: Subject) -> str:
    """Contiguous inputs, and a view whose surroundings are watched too."""
    inputs = subject.inputs(61)
    watched = [copy_of(x) if isinstance(x, Tensor) else x for x in inputs]
    call(subject.pair.new, inputs)
    demand(identical(inputs, watched), "an input was changed")
    wide = [torch.cat([x, x], dim=-1) if isinstance(x, Tensor) and x.dim() else x for x in inputs]
    before = [copy_of(x) if isinstance(x, Tensor) else x for x in wide]
    call(subject.pair.new, [_left_half(x) for x in wide])
    demand(identical(wide, before), "memory around an input was changed")
    return ""


def _left_half(x: Any) -> Any:
    return x[..., : x.shape[-1] // 2] if isinstance(x, Tensor) and x.dim() else x


@point("calls", "parameters are not changed")
def parameters_kept(subject: Subject) -> str:
    """Bit for bit, after calls in evaluation mode."""
    pair = subject.fresh_pair()
    before = {n: copy_of(t) for n, t in pair.new.state_dict().items()}
    call(pair.new, subject.inputs(61))
    after = pair.new.state_dict()
    for name, value in before.items():
        demand(identical(after[name], value), f"{name} was changed")
    return ""


@point("calls", "results are not remembered")
def not_cached(subject: Subject) -> str:
    """Other inputs, and the same tensor with other values, give other results."""
    pair = subject.pair
    first, second = subject.inputs(62), subject.inputs(63)
    agree(pair, first, "first inputs")
    agree(pair, second, "second inputs")
    for turn in (second, subject.inputs(62), second):
        call(pair.new, first)
        _fill(first, turn)
        got, wanted = call(pair.new, first).result, call(pair.new, detached(turn)).result
        demand(identical(wanted, got), "the same tensor with other values gave the old result")
    return ""


def _fill(inputs: list[Any], values: list[Any]) -> None:
    """Writes other values into the same tensors; no version counter sees it."""
    for x, y in zip(inputs, values, strict=True):
        if isinstance(x, Tensor):
            x.data.copy_(y)


@point("calls", "a change of one element of the input is seen")
def small_changes(subject: Subject) -> str:
    """One element alone, then two that change places: sums and samples of inputs stay the same."""
    pair, inputs = subject.fresh_pair(), subject.inputs(68)
    seen = tried = 0
    for x in tensors(inputs):
        if not x.is_floating_point() or not x.is_contiguous() or x.numel() < 2:
            continue
        x, count = x.data.view(-1), x.numel()
        for place in (count // 3, count // 2, count - 2, count - 1):
            before, old = (call(m, detached(inputs)).result for m in (pair.eager, pair.new))
            other = (place * 7 + 1) % count
            x[[place, other]] = x[[other, place]] if tried % 2 else x[[place, other]] + 1000.0
            tried += 1
            got, fresh = call(pair.new, inputs).result, call(pair.new, detached(inputs)).result
            demand(identical(got, fresh), f"element {place}: the old result for a changed input")
            changed = not close(before, call(pair.eager, detached(inputs)).result)
            demand(not changed or not identical(got, old), f"element {place}: the old result")
            seen += changed
            agree(pair, inputs, f"element {place} changed")
    if not seen:
        raise InapplicableError("the original's result does not depend on single elements")
    return f"{seen} of {tried} changes matter"


@point("calls", "repeated inputs are computed again")
def work_repeated(subject: Subject) -> str:
    """A second call with the same values runs the operators and kernels that the first one ran."""
    pair, inputs = subject.pair, subject.inputs(69)
    for seed in (75, 76, 77):  # whatever is prepared for these sizes is prepared
        call(pair.new, subject.inputs(seed))
    first = _operators(pair.new, inputs)
    for where, again in (("the same tensors", inputs), ("copies", detached(inputs))):
        left_out = first - _operators(pair.new, again)
        names = ", ".join(sorted(left_out)[:3])
        demand(
            not left_out, f"{where}: {left_out.total()} operators were left out, such as {names}"
        )
    return f"{first.total()} operators each time" if first else "nothing that a profiler sees"


def _operators(module: nn.Module, inputs: list[Any]) -> Counter[str]:
    """Operators and GPU kernels of one call, as PyTorch's profilers see them."""
    if not any(x.is_cuda for x in tensors(inputs)):
        with profiler_legacy.profile() as seen:  # the other one writes to standard error
            call(module, inputs)
        return Counter(event.name for event in seen.function_events or ())
    torch.cuda.synchronize()
    activities = [profiler.ProfilerActivity.CPU, profiler.ProfilerActivity.CUDA]
    with profiler.profile(activities=activities) as profile:
        call(module, inputs)
        torch.cuda.synchronize()
    # Calls of the CUDA runtime, which differ as the allocator likes, are left out.
    events = profile.events() or ()
    return Counter(e.name for e in events if e.device_type.name == "CUDA" or "::" in e.name)


@point("calls", "results share no memory")
def not_aliased(subject: Subject) -> str:
    """Not with later results, nor with inputs or parameters unless the original's do."""
    pair = subject.pair
    first_inputs, second_inputs = subject.inputs(64), subject.inputs(65)
    first = call(pair.new, first_inputs).result
    kept = [t.clone() for t in tensors(first)]
    second = call(pair.new, second_inputs).result
    demand(identical(first, kept), "a later call changed an earlier result")
    ours = _memory(first) & _memory(second)
    demand(not ours, "two results lie in the same memory")
    eager = call(pair.eager, first_inputs).result
    for what, others_new, others_eager in (
        ("an input", first_inputs, first_inputs),
        ("a parameter", list(pair.new.parameters()), list(pair.eager.parameters())),
    ):
        if not _memory(eager) & _memory(others_eager):
            demand(not _memory(first) & _memory(others_new), f"the result lies in {what}")
    for t in tensors(first):
        if not _memory(eager) & _memory(first_inputs):
            t.zero_()
    again = call(pair.new, first_inputs).result
    demand(identical(again, kept), "changing a result changed a later one")
    return ""


def _memory(value: Any) -> set[int]:
    return {t.untyped_storage().data_ptr() for t in tensors(value) if t.numel()}


@point("calls", "repeated calls are equal bit for bit")
def repeated(subject: Subject) -> str:
    """Copies at other addresses; the sizes the replacement was made for, and new ones."""
    for inputs, sizes in (
        (subject.inputs(66), "the example's sizes"),
        (batches(subject.inputs(66), subject.batch + 1), "sizes not seen before"),
    ):
        if not identical(*(call(subject.pair.eager, inputs).result for _ in range(2))):
            raise InapplicableError("the original itself differs from call to call")
        first = call(subject.pair.new, inputs).result
        for number in range(2, REPEATS + 2):
            again = call(subject.pair.new, detached(inputs)).result
            demand(identical(first, again), f"{sizes}: call {number} differs from the first")
    return f"{REPEATS + 1} calls of two sizes"


@point("calls", "other numbers of threads")
def thread_counts(subject: Subject) -> str:
    """As accurate with one thread as with all."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        said = agree(subject.pair, subject.inputs(67), "one thread")
        torch.set_num_threads(threads + 1)
        agree(subject.pair, subject.inputs(67), f"{threads + 1} threads")
    finally:
        torch.set_num_threads(threads)
    return said


@point("calls", "several Python threads may call at once")
def concurrent(subject: Subject) -> str:
    """Each gets what it gets alone, bit for bit."""
    pair = subject.pair
    inputs = [subject.inputs(70 + i) for i in range(THREADS)]
    alone = [call(pair.new, x) for x in inputs]

    def repeat(index: int) -> bool:
        return all(
            identical(call(pair.new, inputs[index]).result, alone[index].result)
            for _ in range(REPEATS)
        )

    with ThreadPoolExecutor(THREADS) as pool:
        good = list(pool.map(repeat, range(THREADS)))
    demand(all(good), f"{good.count(False)} of {THREADS} threads got something else")
    return f"{THREADS} threads, {REPEATS} calls each"


@point("calls", "hooks are called")
def hooks(subject: Subject) -> str:
    """A forward hook may replace the result."""
    pair, inputs = subject.fresh_pair(), subject.inputs()
    results = []
    for module in (pair.eager, pair.new):
        handle = module.register_forward_hook(lambda *_: torch.full((1,), 7.0))
        with torch.no_grad():
            results.append(module(*inputs))
        handle.remove()
    demand(identical(results[0], results[1]), "a forward hook was not called")
    return ""
