"""Capture: what a module's forward() computes, as a list of ATen operators on numbered values.

forward() runs once on stand-ins: tensors with sizes, strides, a dtype and the CPU as their
device, but without data. A dispatch mode sees every operator below autograd, in the decomposed
form that eager PyTorch would run. Then forward() runs once more on the real arguments, again
watched, which gives the strides PyTorch really chooses, and the first call's result.

Why this is safe. The stand-ins have no data, so nothing in the list can depend on data: whoever
asks for it (`item`, `numpy`, an `if` on a tensor) stops the capture. The list therefore depends
only on the sizes, strides and dtypes of the arguments, on the Python values forward() reads, and
on what the module holds; and a capture is used only for equal ones of these (see
`segue._core.Calls`). That the second run issues the same operators is checked, not assumed.

Tracing by torch.export would find the same operators for symbolic sizes, but costs over a second
of imports in a new process and specialises on what this records anyway.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from ._core import Guard
from .state import ModuleState

Layout = tuple[torch.Size, tuple[int, ...], torch.dtype]

# Results of operators on constants are computed at once up to this many elements.
FIXED_ELEMENTS_MAX = 65536

# Ways to a tensor's data that no dispatch mode sees.
_DATA_METHODS = frozenset(
    ["tolist", "numpy", "__array__", "data_ptr", "__dlpack__", "storage", "untyped_storage",
     "_typed_storage", "__reduce_ex__", "__deepcopy__"]
)  # fmt: skip


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

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    fixed: Tensor | None = None  # a constant of the computation, whatever the arguments are

    @property
    def layout(self) -> Layout:
        """What a tensor must have to stand for this value."""
        return self.shape, self.stride, self.dtype


@dataclass
class Node:
    """One operator: target(*args, **kwargs), with Refs for tensors."""

    target: Any  # torch._ops.OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: list[int | None]  # values of the results, None for those that are no tensors
    single: bool  # the operator returns a tensor, not a sequence

    def operands(self) -> list[int]:
        """Values that are read, in order, each once."""
        leaves = pytree.tree_leaves((self.args, self.kwargs))
        return list(dict.fromkeys(leaf.index for leaf in leaves if isinstance(leaf, Ref)))


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
    guard: Guard = field(repr=False)


@dataclass
class _Memory:
    """What a tensor and its views share."""

    lasting: bool = False  # an argument's or the module's: seen after forward() has returned
    tensors: int = 0  # how many were made


class _StandIn(Tensor):
    """A tensor without data that says it is on the CPU; `meta` carries out its operators."""

    __slots__ = ["memory", "meta", "value"]

    meta: Tensor
    value: int
    memory: _Memory

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, meta: Tensor, value: int) -> _StandIn:
        made: _StandIn = Tensor._make_wrapper_subclass(
            cls,
            meta.shape,
            strides=meta.stride(),
            storage_offset=meta.storage_offset(),
            dtype=meta.dtype,
            device=torch.device("cpu"),
        )
        made.meta = meta
        made.value = value
        made.lie_in(_Memory())
        return made

    def lie_in(self, memory: _Memory) -> None:
        """Says where this tensor lies."""
        self.memory = memory
        memory.tensors += 1

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise NotCapturedError(f"{func} ran where operators are not recorded")


class _NoData(TorchFunctionMode):
    """Stops a capture in which forward() looks at data behind the dispatcher's back."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _DATA_METHODS:
            raise NotCapturedError(f"forward() reads a tensor's data by {name}")
        return func(*args, **(kwargs or {}))


def _meta_like(tensor: Tensor) -> Tensor:
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=torch.device("meta")
    )


class _Tracer(TorchDispatchMode):
    """Records operators, carrying them out on stand-ins."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the wrapper it asks for imports the compiler, over a second's work

    def __init__(self, state: ModuleState) -> None:
        super().__init__()
        self.values: list[Value] = []
        self.nodes: list[Node] = []
        self.sequence: list[tuple[Any, list[int | None]]] = []  # what the second run must repeat
        self.held: dict[int, Tensor] = {}
        self.names: dict[int, str] = {}
        self.stopped: str | None = None
        self._state = state
        self._lifted: dict[int, tuple[Tensor, _StandIn]] = {}

    def stand_in(self, meta: Tensor, fixed: Tensor | None = None) -> _StandIn:
        """A new value."""
        self.values.append(Value(meta.shape, tuple(meta.stride()), meta.dtype, fixed))
        return _StandIn(meta, len(self.values) - 1)

    def stop(self, reason: str) -> NotCapturedError:
        """The error to raise; remembered, should forward() catch it."""
        self.stopped = self.stopped or reason
        return NotCapturedError(self.stopped)

    def _lift(self, tensor: Tensor, fresh: bool) -> _StandIn:
        """The stand-in of a real tensor: one of the module's, or a constant made in forward()."""
        known = self._lifted.get(id(tensor))
        if known:
            return known[1]
        path = self._state.tensors.get(id(tensor))
        if path is None and not fresh:
            raise self.stop("forward() uses a tensor that is neither an argument nor the module's")
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_neg():
            raise self.stop(f"forward() uses {path or 'a tensor'}, which is no plain CPU tensor")
        if type(tensor) is not Tensor and type(tensor) is not nn.Parameter:
            raise self.stop(f"forward() uses {path or 'a tensor'}, a {type(tensor).__name__}")
        made = self.stand_in(_meta_like(tensor), None if path else tensor.detach().clone())
        if path:
            made.memory.lasting = True
            self.held[made.value] = tensor
            self.names[made.value] = path
        self._lifted[id(tensor)] = (tensor, made)
        return made

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        schema = func._schema
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise self.stop(f"forward() draws random numbers ({func})")
        self._check_statistics(func, schema, args)
        # `torch.tensor` announces each new constant by this operator.
        fresh = func is torch.ops.aten.lift_fresh.default

        def lift(leaf: Any) -> Any:
            return self._lift(leaf, fresh) if self._is_real(leaf) else leaf

        args, kwargs = pytree.tree_map(lift, (args, dict(kwargs or {})))
        ins = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, _StandIn)]
        written = [a for a in schema.arguments if a.alias_info and a.alias_info.is_write]
        if written:
            return self._in_place(func, written, args, kwargs)
        out = self._carry_out(func, args, kwargs, ins)
        return self._record(func, args, kwargs, out, ins)

    def _check_statistics(self, func: Any, schema: Any, args: Sequence[Any]) -> None:
        """Training updates running statistics, which the schemas of some versions leave unsaid."""
        given = {a.name: x for a, x in zip(schema.arguments, args, strict=False)}
        trains = given.get("training") or given.get("train")
        if given.get("running_mean") is not None and trains:
            raise self.stop(f"forward() updates running statistics ({func})")

    @staticmethod
    def _is_real(leaf: Any) -> bool:
        return isinstance(leaf, Tensor) and not isinstance(leaf, _StandIn)

    def _carry_out(
        self, func: Any, args: Any, kwargs: dict[str, Any], ins: Sequence[_StandIn]
    ) -> tuple[Any, Any]:
        """Results on the meta device, and real ones where all operands are constants."""
        moved = dict(kwargs)
        if moved.get("device") is not None:
            if torch.device(moved["device"]).type != "cpu":
                raise self.stop(f"forward() moves a tensor to {moved['device']}")
            moved["device"] = torch.device("meta")
        elif not ins and any(a.name == "device" for a in func._schema.arguments):
            moved["device"] = torch.device("meta")
        metas, moved = pytree.tree_map(
            lambda x: x.meta if isinstance(x, _StandIn) else x, (args, moved)
        )
        out = func(*metas, **moved)
        fixed = None
        tensors = [x for x in pytree.tree_leaves(out) if isinstance(x, Tensor)]
        if sum(x.numel() for x in tensors) <= FIXED_ELEMENTS_MAX and all(
            self.values[x.value].fixed is not None for x in ins
        ):
            reals, real_kwargs = pytree.tree_map(
                lambda x: self.values[x.value].fixed if isinstance(x, _StandIn) else x,
                (args, kwargs),
            )
            fixed = func(*reals, **real_kwargs)
        return out, fixed

    def _record(
        self,
        func: Any,
        args: Any,
        kwargs: dict[str, Any],
        out: tuple[Any, Any],
        ins: Sequence[_StandIn],
    ) -> Any:
        meta, fixed = out
        single = isinstance(meta, Tensor)
        metas = [meta] if single else list(meta) if isinstance(meta, (tuple, list)) else None
        if metas is None or not all(isinstance(x, Tensor) or x is None for x in metas):
            if fixed is not None:
                self.sequence.append((func, []))
                return fixed
            raise self.stop(f"{func} returns something other than tensors")
        if not metas:
            raise self.stop(f"{func} is run for what it does, not for a result")
        reals: list[Any] = [None] * len(metas)
        if fixed is not None:
            reals = [fixed] if single else list(fixed)
        made = [
            self.stand_in(x, real) if isinstance(x, Tensor) else None
            for x, real in zip(metas, reals, strict=True)
        ]
        results = [x.value if x is not None else None for x in made]
        if fixed is None:
            refs = pytree.tree_map(
                lambda x: Ref(x.value) if isinstance(x, _StandIn) else x, (args, kwargs)
            )
            self.nodes.append(Node(func, refs[0], refs[1], results, single))
        self.sequence.append((func, results))
        self._note_aliases(func, args, made, ins)
        return made[0] if single else type(meta)(made)

    def _note_aliases(
        self,
        func: Any,
        args: Any,
        made: Sequence[_StandIn | None],
        ins: Sequence[_StandIn],
    ) -> None:
        """A view shares memory with the argument that the schema names."""
        shares = [x.alias_info is not None for x in func._schema.returns]
        for result, shared in zip(made, shares * len(made), strict=False):
            if result is None or not shared:
                continue
            for argument, operand in zip(func._schema.arguments, args, strict=False):
                if argument.alias_info and isinstance(operand, _StandIn):
                    result.lie_in(operand.memory)
                    break
            else:
                if ins:
                    result.lie_in(ins[0].memory)

    def _in_place(self, func: Any, written: Sequence[Any], args: Any, kwargs: Any) -> Any:
        """An in-place operator as its functional twin, the target taking the new value's number.

        Right only when nothing else can see the target's memory: no view of it, and it is neither
        an argument nor the module's.
        """
        name = func._schema.name.split("::")[-1]
        target = args[0] if args else None
        twin = getattr(torch.ops.aten, name[:-1], None) if name.endswith("_") else None
        overload = getattr(twin, func._overloadname, None) if twin is not None else None
        first = written[0] is func._schema.arguments[0] or (
            written[0].name == func._schema.arguments[0].name
        )
        if overload is None or len(written) != 1 or not first:
            raise self.stop(f"forward() writes into a tensor by {func}")
        if not isinstance(target, _StandIn) or target.memory.lasting:
            raise self.stop(f"forward() changes an argument or a tensor of the module ({func})")
        if target.memory.tensors > 1:
            raise self.stop(f"forward() changes a tensor that has views ({func})")
        ins = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, _StandIn)]
        out = self._carry_out(overload, args, kwargs, ins)
        if out[0].shape != target.shape:
            raise self.stop(f"{func} would change its target's shape")
        made = self._record(overload, args, kwargs, out, ins)
        if made.dtype != target.dtype:
            cast = torch.ops.aten._to_copy.default
            changed = {"dtype": target.dtype}
            out = self._carry_out(cast, (made,), changed, [made])
            self.sequence.pop()
            made = self._record(cast, (made,), changed, out, [made])
        self.sequence[-1] = (func, [made.value])
        target.value = made.value
        return target


class _Recorder(TorchDispatchMode):
    """Watches the run on real arguments: the same operators, and the strides they give."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __init__(self) -> None:
        super().__init__()
        self.sequence: list[tuple[Any, list[Layout | None]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        results = [out] if isinstance(out, Tensor) else out
        layouts: list[Layout | None] = []
        if isinstance(results, (tuple, list)):
            layouts = [layout_of(x) if isinstance(x, Tensor) else None for x in results]
        self.sequence.append((func, layouts))
        return out


def layout_of(tensor: Tensor) -> Layout:
    """(shape, stride, dtype) of a strided tensor."""
    return tensor.shape, tuple(tensor.stride()), tensor.dtype


def capture(
    forward: Callable[..., Any],
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[Capture, Any]:
    """Captures forward(module, *args, **kwargs) for arguments like these.

    Arguments are plain CPU tensors, numbers, strings, booleans or None. Returns the capture and the
    result of forward() on the arguments themselves. NotCapturedError says why there is none.
    """
    state = ModuleState(module)
    hook = state.hook()
    if hook:
        raise NotCapturedError(f"a hook is registered on {hook}")
    tracer = _Tracer(state)
    with torch.no_grad():
        out, arguments = _trace(tracer, forward, module, args, kwargs)
        leaves, spec = pytree.tree_flatten(out)
        outputs = _outputs(tracer, leaves)
        recorder, versions = _Recorder(), state.versions()
        with recorder:
            real = forward(module, *args, **kwargs)
    try:
        if versions != state.versions() or not state.guard.holds():
            raise NotCapturedError("forward() changes a tensor or an attribute of the module")
        _compare(tracer, recorder)
        _check_result(tracer, outputs, real, spec)
    except NotCapturedError as reason:
        reason.result = real  # forward() need not run again, and may not where it has effects
        raise
    found = Capture(
        tracer.values,
        _needed(tracer.nodes, outputs),
        arguments,
        tracer.held,
        tracer.names,
        list(dict.fromkeys(outputs)),
        _rebuilder(leaves, outputs, spec),
        state.guard,
    )
    read = {v for node in found.nodes for v in node.operands()}
    found.held = {v: tensor for v, tensor in found.held.items() if v in read}
    return found, real


def _trace(
    tracer: _Tracer,
    forward: Callable[..., Any],
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[Any, dict[int, int]]:
    arguments: dict[int, int] = {}
    flat = [*args, *kwargs.values()]
    names = [f"x{i}" for i in range(len(args))] + list(kwargs)
    for i, value in enumerate(flat):
        if isinstance(value, Tensor):
            made = tracer.stand_in(_meta_like(value))
            made.memory.lasting = True
            arguments[made.value] = i
            tracer.names[made.value] = names[i]
            flat[i] = made
    with _restored(tracer._state), tracer, _NoData():
        out = forward(
            module, *flat[: len(args)], **dict(zip(kwargs, flat[len(args) :], strict=True))
        )
    if tracer.stopped:
        raise NotCapturedError(tracer.stopped)
    return out, arguments


@contextlib.contextmanager
def _restored(state: ModuleState) -> Iterator[None]:
    """Takes back what forward() writes into its module, for it may be a stand-in."""
    try:
        yield
    finally:
        changed = state.restore()
    if changed:
        raise NotCapturedError("forward() changes the module's attributes")


def _outputs(tracer: _Tracer, leaves: list[Any]) -> list[int]:
    """Values of the result's tensors."""
    outputs: list[int] = []
    memory: dict[int, int] = {}
    for leaf in leaves:
        if isinstance(leaf, _StandIn):
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


def _compare(tracer: _Tracer, recorder: _Recorder) -> None:
    """The same operators must have run; the strides of all their results are taken over."""
    if len(recorder.sequence) != len(tracer.sequence):
        raise NotCapturedError("forward() runs other operators on real data")
    for (func, layouts), (expected, results) in zip(
        recorder.sequence, tracer.sequence, strict=True
    ):
        if func is not expected or (results and len(results) != len(layouts)):
            raise NotCapturedError(f"forward() runs {func} on real data, not {expected}")
        for index, layout in zip(results, layouts, strict=False):
            if index is None or layout is None:
                continue
            value = tracer.values[index]
            if (value.shape, value.dtype) != (layout[0], layout[2]):
                raise NotCapturedError(f"{func} gives another shape or dtype on real data")
            value.stride = layout[1]


def _check_result(tracer: _Tracer, outputs: list[int], real: Any, spec: Any) -> None:
    leaves, real_spec = pytree.tree_flatten(real)
    tensors = [x for x in leaves if isinstance(x, Tensor)]
    if real_spec != spec or len(tensors) != len(outputs):
        raise NotCapturedError("forward() returns another structure on real data")
    for index, tensor in zip(outputs, tensors, strict=True):
        if type(tensor) is not Tensor or tensor.layout != torch.strided or tensor.is_neg():
            raise NotCapturedError("a result is no plain tensor")
        value = tracer.values[index]
        if (value.shape, value.dtype) != (tensor.shape, tensor.dtype):
            raise NotCapturedError("a result has another shape or dtype on real data")
        value.stride = tuple(tensor.stride())


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
    slots = [(position[x.value], None) if isinstance(x, _StandIn) else (None, x) for x in leaves]

    def rebuild(tensors: list[Tensor]) -> Any:
        filled = [tensors[i] if i is not None else constant for i, constant in slots]
        return pytree.tree_unflatten(filled, spec)

    return rebuild
