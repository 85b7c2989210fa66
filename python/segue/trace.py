"""The two runs of forward() that make a capture: one on real data, one on tensors without.

The first records which operators run and how their results lie. The second repeats it on stand-ins,
each operator's results taken from the record, and finds out what depends on what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from .state import ModuleState

# Sizes, strides, dtype, and the GPU it lies on or -1 for the CPU.
Layout = tuple[torch.Size, tuple[int, ...], torch.dtype, int]

# Results of operators on constants are computed at once up to this many elements.
FIXED_ELEMENTS_MAX = 65536

# Ways to a tensor's data that no dispatch mode sees.
_DATA_METHODS = frozenset(
    [
        "tolist",
        "numpy",
        "__array__",
        "data_ptr",
        "__dlpack__",
        "storage",
        "untyped_storage",
        "_typed_storage",
        "__reduce_ex__",
        "__deepcopy__",
    ]
)


class NotCapturedError(Exception):
    """Why a module is left to PyTorch, in one sentence."""

    result: Any  # of forward(), where that has run before the reason was found


@dataclass(frozen=True)
class Ref:
    """A value, where an operator's arguments hold a tensor."""

    index: int


@dataclass
class Value:
    """One tensor of the computation."""

    layout: Layout
    fixed: Tensor | None = None  # a constant of the computation, whatever the arguments are

    @property
    def shape(self) -> torch.Size:
        """Its sizes."""
        return self.layout[0]

    @property
    def dtype(self) -> torch.dtype:
        """Its dtype."""
        return self.layout[2]


@dataclass
class Node:
    """One operator: target(*args, **kwargs), with Refs for tensors."""

    target: Any  # torch._ops.OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: list[int | None]  # values of the results, None for those that are no tensors
    single: bool  # the operator returns a tensor, not a sequence
    in_place: bool  # forward() ran its in-place twin, whose result lies as the target did

    def operands(self) -> list[int]:
        """Values that are read, in order, each once."""
        leaves = pytree.tree_leaves((self.args, self.kwargs))
        return list(dict.fromkeys(leaf.index for leaf in leaves if isinstance(leaf, Ref)))


def layout_of(tensor: Tensor) -> Layout:
    """How a plain tensor lies."""
    return tensor.shape, tuple(tensor.stride()), tensor.dtype, tensor.get_device()


def place_of(layout: Layout) -> torch.device:
    """The device of a layout."""
    return torch.device("cpu") if layout[3] < 0 else torch.device("cuda", layout[3])


def plain(tensor: Tensor) -> bool:
    """Whether a tensor is dense, on the CPU or a GPU, and what its memory says."""
    known = tensor.device.type in ("cpu", "cuda")
    return known and tensor.layout == torch.strided and not tensor.is_neg()


def _written(schema: Any) -> list[Any]:
    return [a for a in schema.arguments if a.alias_info and a.alias_info.is_write]


def _given(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name."""
    return {a.name: x for a, x in zip(func._schema.arguments, args, strict=False)} | kwargs


def refusal(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> str | None:
    """Why an operator may not run twice, or None."""
    if torch.Tag.nondeterministic_seeded in func.tags:
        return f"forward() draws random numbers ({func})"
    given = _given(func, args, kwargs)
    # Some versions' schemas leave unsaid that training updates running statistics.
    if given.get("running_mean") is not None and (given.get("training") or given.get("train")):
        return f"forward() updates running statistics ({func})"
    return None


@dataclass
class Event:
    """An operator that ran on real data."""

    func: Any
    layouts: list[Layout | None]  # of its results
    sequence: type | None  # type of the sequence it returned; None for a single tensor
    other: bool  # it returned something other than tensors


class Recorder(TorchDispatchMode):
    """Records a run on real data; stops it before anything that could not be done twice."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the wrapper it asks for imports the compiler, over a second's work

    def __init__(self, lasting: Sequence[Tensor]) -> None:
        super().__init__()
        self.events: list[Event] = []
        self._lasting = {x.untyped_storage().data_ptr() for x in lasting if x.numel()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._refuse_effects(func, args, kwargs or {})
        out = func(*args, **(kwargs or {}))
        single = isinstance(out, Tensor)
        results = [out] if single else list(out) if isinstance(out, (tuple, list)) else [out]
        layouts: list[Layout | None] = []
        for x in results:
            if isinstance(x, Tensor):
                if not plain(x):
                    raise NotCapturedError(f"{func} makes a tensor that is no plain tensor")
                layouts.append(layout_of(x))
            else:
                layouts.append(None)
        other = not all(x is None or isinstance(x, Tensor) for x in results)
        self.events.append(Event(func, layouts, None if single else type(out), other))
        return out

    def _refuse_effects(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        reason = refusal(func, args, kwargs)
        if reason is not None:
            raise NotCapturedError(reason)
        given = _given(func, args, kwargs)
        for argument in _written(func._schema):
            for x in pytree.tree_leaves(given.get(argument.name)):
                if isinstance(x, Tensor) and x.untyped_storage().data_ptr() in self._lasting:
                    raise NotCapturedError(
                        f"forward() changes an argument or a tensor of the module ({func})"
                    )


class Source(Protocol):
    """Where a Tracer learns what operators give."""

    def event(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Event | None:
        """What func gave for these arguments; None when it did not run."""

    def finished(self) -> bool:
        """Whether everything that ran has been asked for."""


class NoData(TorchFunctionMode):
    """Stops a capture in which forward() looks at data behind the dispatcher's back."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _DATA_METHODS:
            raise NotCapturedError(f"forward() reads a tensor's data by {name}")
        return func(*args, **(kwargs or {}))


@dataclass
class Memory:
    """What a tensor and its views share."""

    lasting: bool = False  # an argument's or the module's: seen after forward() has returned
    tensors: int = 0  # how many were made


class StandIn(Tensor):
    """A tensor without data that says it lies where the real one does."""

    __slots__ = ["memory", "value"]

    value: int
    memory: Memory

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, layout: Layout, value: int) -> StandIn:
        """The stand-in of a value."""
        made: StandIn = Tensor._make_wrapper_subclass(
            cls, layout[0], strides=layout[1], dtype=layout[2], device=place_of(layout)
        )
        made.value = value
        made.lie_in(Memory())
        return made

    def lie_in(self, memory: Memory) -> None:
        """Says where this tensor lies."""
        self.memory = memory
        memory.tensors += 1

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise NotCapturedError(f"{func} ran where operators are not recorded")


class Tracer(TorchDispatchMode):
    """Repeats a recorded run on stand-ins and notes what depends on what."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __init__(self, state: ModuleState, source: Source) -> None:
        super().__init__()
        self.values: list[Value] = []
        self.nodes: list[Node] = []
        self.held: dict[int, Tensor] = {}
        self.names: dict[int, str] = {}
        self._stopped: str | None = None
        self._state = state
        self._source = source
        self._lifted: dict[int, tuple[Tensor, StandIn]] = {}

    def finish(self) -> None:
        """To be called at the end: raises what forward() may have caught."""
        if self._stopped is None and not self._source.finished():
            self._stopped = "forward() runs other operators on real data"
        if self._stopped is not None:
            raise NotCapturedError(self._stopped)

    def stop(self, reason: str) -> NotCapturedError:
        """The error to raise; remembered, should forward() catch it."""
        self._stopped = self._stopped or reason
        return NotCapturedError(self._stopped)

    def argument(self, tensor: Tensor, name: str) -> StandIn:
        """The stand-in of an argument."""
        made = self._stand_in(layout_of(tensor))
        made.memory.lasting = True
        self.names[made.value] = name
        return made

    def _stand_in(self, layout: Layout, fixed: Tensor | None = None) -> StandIn:
        self.values.append(Value(layout, fixed))
        return StandIn(layout, len(self.values) - 1)

    def _lift(self, tensor: Tensor, fresh: bool) -> StandIn:
        """The stand-in of a real tensor: one of the module's, or a constant made in forward()."""
        known = self._lifted.get(id(tensor))
        if known:
            return known[1]
        path = self._state.tensors.get(id(tensor))
        if path is None and not fresh:
            raise self.stop("forward() uses a tensor that is neither an argument nor the module's")
        if not plain(tensor):
            raise self.stop(f"forward() uses {path or 'a tensor'}, which is no plain tensor")
        if type(tensor) is not Tensor and type(tensor) is not nn.Parameter:
            raise self.stop(f"forward() uses {path or 'a tensor'}, a {type(tensor).__name__}")
        made = self._stand_in(layout_of(tensor), None if path else tensor.detach().clone())
        if path:
            made.memory.lasting = True
            self.held[made.value] = tensor
            self.names[made.value] = path
        self._lifted[id(tensor)] = (tensor, made)
        return made

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # `torch.tensor` announces each new constant by this operator.
        fresh = func is torch.ops.aten.lift_fresh.default

        def lift(leaf: Any) -> Any:
            real = isinstance(leaf, Tensor) and not isinstance(leaf, StandIn)
            return self._lift(leaf, fresh) if real else leaf

        args, kwargs = pytree.tree_map(lift, (args, kwargs or {}))
        ins = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, StandIn)]
        event = self._event(func, args, kwargs or {})
        written = _written(func._schema)
        if written:
            twin = self._twin(func, written, args)
            made = self._apply(twin, args, kwargs or {}, ins, event, in_place=True)
            args[0].value = made.value
            return args[0]
        return self._apply(func, args, kwargs or {}, ins, event, in_place=False)

    def _event(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Event:
        """What the same operator did on real data."""
        reason = refusal(func, args, kwargs)
        if reason is None and func.namespace != "aten":
            reason = f"forward() runs {func}, which is no operator of PyTorch's own"
        if reason is not None:
            raise self.stop(reason)
        event = self._source.event(func, args, kwargs)
        if event is None:
            raise self.stop(f"forward() does not run {func} on real data")
        return event

    def _apply(
        self,
        func: Any,
        args: Any,
        kwargs: dict[str, Any],
        ins: Sequence[StandIn],
        event: Event,
        in_place: bool,
    ) -> Any:
        fixed = self._fixed(func, args, kwargs, ins, event)
        if event.other:
            if fixed is None:
                raise self.stop(f"forward() reads a tensor's data ({func})")
            return fixed
        if fixed is None and torch.Tag.dynamic_output_shape in func.tags:
            raise self.stop(f"the shape of {func}'s result depends on data")
        if not event.layouts:
            raise self.stop(f"{func} is run for what it does, not for a result")
        single = event.sequence is None
        reals = [None] * len(event.layouts) if fixed is None else [fixed] if single else list(fixed)
        made = [
            self._stand_in(layout, real) if layout else None
            for layout, real in zip(event.layouts, reals, strict=True)
        ]
        if fixed is None:
            refs = pytree.tree_map(
                lambda x: Ref(x.value) if isinstance(x, StandIn) else x, (args, kwargs)
            )
            results = [x.value if x is not None else None for x in made]
            self.nodes.append(Node(func, refs[0], refs[1], results, single, in_place))
        self._note_views(func, args, made, ins)
        return made[0] if single else event.sequence(made)  # type: ignore[misc]

    def _fixed(
        self,
        func: Any,
        args: Any,
        kwargs: dict[str, Any],
        ins: Sequence[StandIn],
        event: Event,
    ) -> Any:
        """The result where all operands are constants; None where not, or where it is large."""
        if any(self.values[x.value].fixed is None for x in ins):
            return None
        if sum(x[0].numel() for x in event.layouts if x) > FIXED_ELEMENTS_MAX:
            return None
        reals, named = pytree.tree_map(
            lambda x: self.values[x.value].fixed if isinstance(x, StandIn) else x, (args, kwargs)
        )
        return func(*reals, **named)

    def _note_views(
        self, func: Any, args: Any, made: Sequence[StandIn | None], ins: Sequence[StandIn]
    ) -> None:
        """A view shares memory with the argument that the schema names."""
        returns = func._schema.returns
        for i, result in enumerate(made):
            if result is None or returns[min(i, len(returns) - 1)].alias_info is None:
                continue
            bases = [
                x
                for a, x in zip(func._schema.arguments, args, strict=False)
                if a.alias_info and isinstance(x, StandIn)
            ]
            for base in (bases or ins)[:1]:
                result.lie_in(base.memory)

    def _twin(self, func: Any, written: Sequence[Any], args: Any) -> Any:
        """The functional twin of an in-place operator, whose target takes the new value's number.

        Right only when nothing else can see the target's memory: no view of it, and it is neither
        an argument nor the module's.
        """
        name = func._schema.name.split("::")[-1]
        packet = getattr(torch.ops.aten, name[:-1], None) if name.endswith("_") else None
        twin = getattr(packet, func._overloadname, None) if packet is not None else None
        target = args[0] if args else None
        if twin is None or len(written) != 1 or written[0].name != func._schema.arguments[0].name:
            raise self.stop(f"forward() writes into a tensor by {func}")
        if not isinstance(target, StandIn) or target.memory.lasting:
            raise self.stop(f"forward() changes an argument or a tensor of the module ({func})")
        if target.memory.tensors > 1:
            raise self.stop(f"forward() changes a tensor that has views ({func})")
        return twin
