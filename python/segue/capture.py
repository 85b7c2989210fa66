"""Capture: what a module's forward() computes, as a list of ATen operators on numbered values.

forward() runs once on the real arguments while a dispatch mode records every operator below
autograd, in the decomposed form that PyTorch runs, and how its results lie. Then forward() runs
once more on stand-ins: tensors with sizes, strides, a dtype and a device, but without
data. Where it is remembered how the results of all its operators lie, that second run is enough.

Why this is safe. The stand-ins have no data, so nothing in the list can depend on data: whoever
asks for it (`item`, `numpy`, an `if` on a tensor) stops the capture. The list therefore depends
only on the sizes, strides and dtypes of the arguments, on the Python values forward() reads, and on
what the module holds; and a capture is used only for equal ones of these (see
`segue._core.Calls`). That both runs issue the same operators is checked, and for the few whose
result's shape depends on data the capture stops.

Tracing by torch.export would find the same operators for symbolic sizes, but costs over a second of
imports in a new process and specialises on what this records anyway; so do PyTorch's own functions
for shapes, many of which are in Python.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from . import autocast
from ._core import Guard
from .layouts import key_of, memory
from .state import ModuleState
from .trace import (
    Event,
    NoData,
    Node,
    NotCapturedError,
    Recorder,
    Source,
    StandIn,
    Tracer,
    Value,
    layout_of,
    plain,
)


@dataclass
class Capture:
    """A module's computation for one signature."""

    values: list[Value]
    nodes: list[Node]
    arguments: dict[int, int]  # value -> position among the arguments
    held: dict[int, Tensor]  # value -> tensor of the module, read at every call
    names: dict[int, str]  # value -> name, of arguments and held tensors
    outputs: list[int]  # values, in the order of the result's leaves
    rebuild: Callable[[list[Tensor]], Any] | None  # None: the result is the one tensor itself
    spec: Any  # of the result, as torch.utils._pytree has it
    leaves: list[int]  # values of its tensors
    guard: Guard = field(repr=False)


def capture(
    forward: Callable[..., Any],
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[Capture, Any]:
    """Captures forward(module, *args, **kwargs) for arguments like these.

    Arguments are plain tensors, numbers, strings, booleans or None. Returns the capture and,
    where forward() had to be run on the arguments themselves, its result, computed without
    gradients; else None. NotCapturedError says why there is no capture.
    """
    state = ModuleState(module)
    hook = state.hook()
    if hook:
        raise NotCapturedError(f"a hook is registered on {hook}")
    remembered = _Remembered()
    with contextlib.suppress(Exception), torch.no_grad(), autocast.uncached():
        known = _trace(state, remembered, forward, module, args, kwargs)
        if not remembered.unknown:
            return known, None
    tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
    recorder = Recorder([*tensors, *state.objects()])
    with torch.no_grad(), autocast.uncached():
        with _restored(state), recorder:
            real = forward(module, *args, **kwargs)
        try:
            source = _Recorded(recorder.events)
            found = _trace(state, source, forward, module, args, kwargs)
            _check_result(found, real)
        except NotCapturedError as reason:
            reason.result = real  # forward() need not run again
            raise
        except Exception as error:
            stopped = NotCapturedError(f"forward() raised {error!r} on tensors without data")
            stopped.result = real
            raise stopped from error
    memory.save()
    return found, real


class _UnknownError(Exception):
    """An operator of which it is not remembered what it gives."""


class _Remembered:
    """What operators gave before, in this process or another."""

    unknown = False  # whether something was not known; forward() may have caught the error

    def event(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Event:
        """What func gave for arguments like these."""
        found = memory.get(func, key_of(func, args, kwargs))
        if found is None:
            self.unknown = True
            raise _UnknownError
        return found

    def finished(self) -> bool:
        """Nothing has to come."""
        return True


class _Recorded:
    """What operators gave on real data, in the order they ran."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        self._next = 0

    def event(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Event | None:
        """The next operator, if it is func."""
        if self.finished() or self._events[self._next].func is not func:
            return None
        self._next += 1
        event = self._events[self._next - 1]
        memory.put(event, key_of(func, args, kwargs))
        return event

    def finished(self) -> bool:
        """Whether all have been asked for."""
        return self._next == len(self._events)


def _trace(
    state: ModuleState,
    source: Source,
    forward: Callable[..., Any],
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Capture:
    tracer = Tracer(state, source)
    arguments: dict[int, int] = {}
    flat = [*args, *kwargs.values()]
    names = [f"x{i}" for i in range(len(args))] + list(kwargs)
    for i, value in enumerate(flat):
        if isinstance(value, Tensor):
            flat[i] = made = tracer.argument(value, names[i])
            arguments[made.value] = i
    with _restored(state), tracer, NoData():
        named = dict(zip(kwargs, flat[len(args) :], strict=True))
        out = forward(module, *flat[: len(args)], **named)
    tracer.finish()
    return captured(tracer, arguments, out, state)


def captured(tracer: Tracer, arguments: dict[int, int], out: Any, state: ModuleState) -> Capture:
    """What a finished tracer saw that the result `out` needs. arguments: of values, by place."""
    leaves, spec = pytree.tree_flatten(out)
    outputs = _outputs(tracer, leaves)
    nodes = _needed(tracer.nodes, outputs)
    read = {v for node in nodes for v in node.operands()}
    return Capture(
        tracer.values,
        nodes,
        arguments,
        {v: tensor for v, tensor in tracer.held.items() if v in read},
        tracer.names,
        list(dict.fromkeys(outputs)),
        _rebuilder(leaves, outputs, spec),
        spec,
        outputs,
        state.guard,
    )


@contextlib.contextmanager
def _restored(state: ModuleState) -> Iterator[None]:
    """Takes back what forward() writes into its module, for it may be a stand-in."""
    try:
        yield
    finally:
        changed = state.restore()
    if changed:
        raise NotCapturedError("forward() changes the module's attributes")


def _outputs(tracer: Tracer, leaves: list[Any]) -> list[int]:
    """Values of the result's tensors."""
    outputs: list[int] = []
    memory: dict[int, int] = {}
    for leaf in leaves:
        if isinstance(leaf, StandIn):
            if leaf.memory.lasting:
                raise NotCapturedError("a result shares memory with an argument or the module")
            if tracer.values[leaf.value].fixed is not None:
                raise NotCapturedError("a result does not depend on the arguments")
            if memory.setdefault(id(leaf.memory), leaf.value) != leaf.value:
                raise NotCapturedError("two results share memory")
            outputs.append(leaf.value)
        elif isinstance(leaf, Tensor):
            raise NotCapturedError("a result is a tensor of the module")
        elif leaf is not None and type(leaf) not in (bool, int, float, str):
            raise NotCapturedError(f"a result is a {type(leaf).__name__}")
    if not outputs:
        raise NotCapturedError("forward() returns no tensor")
    return outputs


def _check_result(found: Capture, real: Any) -> None:
    """The result on real data must be what the capture says."""
    leaves, spec = pytree.tree_flatten(real)
    tensors = [x for x in leaves if isinstance(x, Tensor)]
    if spec != found.spec or len(tensors) != len(found.leaves):
        raise NotCapturedError("forward() returns another structure on real data")
    for index, tensor in zip(found.leaves, tensors, strict=True):
        if type(tensor) is not Tensor or not plain(tensor):
            raise NotCapturedError("a result is no plain tensor")
        if found.values[index].layout != layout_of(tensor):
            raise NotCapturedError("a result lies otherwise on real data")


def _needed(nodes: list[Node], outputs: list[int]) -> list[Node]:
    """The nodes that the outputs depend on, in order."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.results):
            kept.append(node)
            wanted.update(node.operands())
    return kept[::-1]


def _rebuilder(
    leaves: list[Any], outputs: list[int], spec: Any
) -> Callable[[list[Tensor]], Any] | None:
    """Makes the result from the tensors, in the order of Capture.outputs."""
    distinct = list(dict.fromkeys(outputs))
    if len(leaves) == 1 and pytree.tree_unflatten([0], spec) == 0:
        return None
    plain = distinct == outputs and len(outputs) == len(leaves)
    if plain and pytree.tree_unflatten(list(range(len(leaves))), spec) == tuple(range(len(leaves))):
        example = pytree.tree_unflatten(leaves, spec)
        if type(example) is tuple:
            return tuple
    position = {value: i for i, value in enumerate(distinct)}
    slots = [(position[x.value], None) if isinstance(x, StandIn) else (None, x) for x in leaves]

    def rebuild(tensors: list[Tensor]) -> Any:
        filled = [tensors[i] if i is not None else constant for i, constant in slots]
        return pytree.tree_unflatten(filled, spec)

    return rebuild
