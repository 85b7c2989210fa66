"""What a file that replaces a model needs to know of its forward(), found without data or a GPU.

Two runs on tensors without data. The first, at the sizes of get_inputs(), gives a Capture, as
`segue.optimize` makes it, and the calls of PyTorch's functions that issued its operators: what is
not fused is written down as those calls. The second, at sizes that are symbols, gives the sizes
among the calls' arguments as formulas, and what forward() asks of sizes on its way. Both must call
the same functions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch import Tensor, nn
from torch._dynamo.source import LocalSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._sympy.printers import PythonPrinter

from .capture import Capture, _restored, captured
from .state import ModuleState
from .trace import Event, Layout, NoData, NotCapturedError, Ref, StandIn, Tracer, place_of, plain


@dataclass(frozen=True)
class Size:
    """An integer that follows from the sizes of the arguments."""

    text: str  # a formula in Python
    formula: Any = field(compare=False)  # the same for sympy, in one symbol a size


@dataclass(frozen=True)
class Parameter:
    """A tensor of the module as an argument, by its path; "" where it is none of the module's."""

    path: str


@dataclass
class Call:
    """One call of a function of PyTorch's by forward(), or by a module that it calls."""

    func: Any
    args: tuple[Any, ...]  # with Ref and Size in the place of tensors and sizes
    kwargs: dict[str, Any]
    results: list[int]  # values, in the order of the leaves of what it returned
    flat: bool  # it returned one tensor, or a tuple or list of tensors
    single: bool  # one tensor
    values: range  # that its operators made


@dataclass
class Part:
    """A module that ran: the model itself or one of its submodules."""

    path: str
    settings: dict[str, Any]  # what its forward() read beside tensors and submodules


@dataclass
class Trace:
    """Everything that is known of forward()."""

    capture: Capture
    calls: list[Call]
    sizes: dict[int, tuple[int | Size, ...]]  # value -> its sizes
    conditions: list[str]  # on sizes, which held; formulas in Python
    parts: list[Part]


# ---- the run at the example's sizes ------------------------------------------------------------


class _Inferred:
    """What operators give, inferred by PyTorch from layouts."""

    def __init__(self) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    def event(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Event:
        """Runs func on tensors without data."""

        def stand_in(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            layout = (leaf.shape, leaf.stride(), leaf.dtype, leaf.get_device())
            return torch.empty_strided(*layout[:2], dtype=layout[2], device=place_of(layout))

        if func is torch.ops.aten.lift_fresh.default:
            return Event(func, [_layout(args[0])], None, False)
        with self._mode:
            args, kwargs = pytree.tree_map(stand_in, (tuple(args), kwargs))
            out = func(*args, **kwargs)
        single = isinstance(out, Tensor)
        results = [out] if single else list(out) if isinstance(out, (tuple, list)) else [out]
        layouts = [_layout(x) if isinstance(x, Tensor) else None for x in results]
        other = not all(x is None or isinstance(x, Tensor) for x in results)
        return Event(func, layouts, None if single else type(out), other)

    def finished(self) -> bool:
        """Nothing has to come."""
        return True


def _layout(x: Tensor) -> Layout:
    if x.device.type == "meta" or not plain(x):
        raise NotCapturedError("an operator makes a tensor that is no plain tensor")
    return x.shape, tuple(x.stride()), x.dtype, x.get_device()


class _Calls(TorchFunctionMode):
    """Notes the outermost calls of PyTorch's functions: function, arguments, result."""

    def __init__(
        self, count: Callable[[], int], around: Callable[[Any], Any] = contextlib.nullcontext
    ) -> None:
        """count: how many values there are; around: entered for every function."""
        super().__init__()
        self.made: list[tuple[Any, Any, Any, range]] = []
        self._count = count
        self._around = around

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = self._count()
        given = pytree.tree_map(_noted, (tuple(args), dict(kwargs or {})))
        with self._around(func):
            out = func(*args, **(kwargs or {}))
        result = pytree.tree_map(_noted, out)
        self.made.append((func, given, result, range(before, self._count())))
        return out


def _noted(leaf: Any) -> Any:
    return Ref(leaf.value) if isinstance(leaf, StandIn) else leaf


Forward = Callable[[dict[str, Any]], Any]  # takes the arguments by name


def _capture(state: ModuleState, forward: Forward, arguments: dict[str, Any]) -> Any:
    """The Capture of forward() at the arguments' sizes, and its calls."""
    tracer = Tracer(state, _Inferred())
    calls = _Calls(lambda: len(tracer.values))
    positions: dict[int, int] = {}
    given = dict(arguments)
    for i, (name, value) in enumerate(arguments.items()):
        if isinstance(value, Tensor):
            given[name] = made = tracer.argument(value, name)
            positions[made.value] = i
    with torch.no_grad(), _restored(state), tracer, NoData(), calls:
        out = forward(given)
    tracer.finish()
    return captured(tracer, positions, out, state), calls.made


# ---- the run at symbolic sizes -----------------------------------------------------------------


class _Asked(TorchDispatchMode):
    """Tells what forward() itself asks of sizes from what operators ask."""

    def __init__(self, environment: ShapeEnv) -> None:
        super().__init__()
        self.operators = 0
        self._environment = environment
        self._own: set[int] = set()  # guards that operators added

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.operators += 1
        with self.within(func):
            return func(*args, **(kwargs or {}))

    @contextlib.contextmanager
    def within(self, func: Any) -> Iterator[None]:
        """What is asked inside is no concern of forward()'s, unless func is written in Python."""
        before = len(self._environment.guards)
        yield
        if not isinstance(func, FunctionType):
            self._own.update(range(before, len(self._environment.guards)))

    def by_forward(self) -> list[Any]:
        """Expressions of the guards that are no operator's."""
        return [g.expr for i, g in enumerate(self._environment.guards) if i not in self._own]


class Printer(PythonPrinter):
    """Formulas in Python, with names for their symbols."""

    def __init__(self, names: dict[Any, str]) -> None:
        super().__init__()
        self._names = names

    def _print_Symbol(self, expr: Any) -> str:  # noqa: N802  (sympy's name)
        return self._names[expr]

    def _print_Add(self, expr: Any, order: Any = None) -> str:  # noqa: ARG002, N802
        """Numbers last: `x.shape[2] - 2`."""
        terms = sorted(expr.args, key=lambda term: bool(term.is_number))
        text = self.doprint(terms[0])
        for term in terms[1:]:
            negative = term.could_extract_minus_sign()
            printed = self.doprint(-term if negative else term)
            text += f" - {printed}" if negative else f" + {printed}"
        return text

    def _print_Mul(self, expr: Any) -> str:  # noqa: N802
        return " * ".join(
            self.doprint(x) if x.is_Symbol or x.is_number else f"({self.doprint(x)})"
            for x in expr.args
        )


class _Symbolic:
    """forward() at sizes that are symbols."""

    def __init__(self, forward: Forward, arguments: dict[str, Any]) -> None:
        self._environment = ShapeEnv(specialize_zero_one=False, duck_shape=False)
        mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=self._environment)
        names: dict[Any, str] = {}
        self.arguments = dict(arguments)
        for name, x in arguments.items():
            if not isinstance(x, Tensor):
                continue
            # Its memory is never touched.
            bare = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)
            context: Any = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.DYNAMIC] * x.dim())
            fake = mode.from_tensor(bare, source=LocalSource(name), symbolic_context=context)
            self.arguments[name] = fake
            sizes: Any = fake.shape
            for dim, size in enumerate(sizes):
                if isinstance(size, torch.SymInt):
                    names[size.node.expr] = f"{name}.shape[{dim}]"
        self._printer = Printer(names)
        asked = _Asked(self._environment)
        calls = _Calls(lambda: asked.operators, asked.within)
        with torch.no_grad(), mode, asked, calls:
            forward(self.arguments)
        self.calls = calls.made
        self._asked = asked.by_forward()
        self._equal: dict[Any, Any] = {}  # sizes that operators demand to be equal to others
        for guard in self._environment.guards:
            if guard.expr.func is sympy.Eq:
                self._learn(*map(self._simplified, guard.expr.args))

    def _learn(self, left: Any, right: Any) -> None:
        for symbol, other in ((right, left), (left, right)):
            if symbol.is_Symbol and symbol not in other.free_symbols:
                self._equal[symbol] = other
                return

    def _simplified(self, expression: Any) -> Any:
        return sympy.sympify(self._environment.simplify(expression)).xreplace(self._equal)

    def size(self, value: Any) -> Any:
        """A number, or a formula for it; anything else as it is."""
        if isinstance(value, slice):
            return slice(self.size(value.start), self.size(value.stop), self.size(value.step))
        if not isinstance(value, torch.SymInt):
            return value
        found = self._simplified(value.node.expr)
        return int(found) if found.is_number else Size(self._printer.doprint(found), found)

    def sizes(self, tensor: Tensor) -> tuple[int | Size, ...]:
        """Of a tensor that came out."""
        return tuple(map(self.size, tensor.shape))

    def conditions(self) -> list[str]:
        """What forward() asked of sizes that may be otherwise, as formulas that held."""
        said = []
        for expression in self._asked:
            found = self._simplified(expression)
            if found.free_symbols:
                said.append(self._printer.doprint(found))
        return list(dict.fromkeys(said))


# ---- what modules read of themselves -----------------------------------------------------------

_EVERY_MODULE = frozenset(vars(nn.Module())) - {"training"}
_PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device)


def _literal(value: Any) -> bool:
    """Whether a file can compare the value with what it writes down."""
    if isinstance(value, (list, tuple)):
        return type(value) in (list, tuple) and all(map(_literal, value))
    if isinstance(value, dict):
        return type(value) is dict and all(_literal(x) for pair in value.items() for x in pair)
    return type(value) in _PLAIN


@contextlib.contextmanager
def _watched(module: nn.Module) -> Iterator[list[Part]]:
    """Notes which modules run and which of their settings they read."""
    parts: dict[str, Part] = {}
    classes: dict[type, type] = {}
    paths = {id(m): name for name, m in module.named_modules()}
    modules = list(module.modules())

    def watching(cls: type) -> type:
        def read(self: Any, name: str) -> Any:
            value = cls.__getattribute__(self, name)  # type: ignore[call-arg]
            path = paths.get(id(self))
            if path is None or name in _EVERY_MODULE:
                return value
            if name == "forward":
                parts.setdefault(path, Part(path, {}))
            elif name in object.__getattribute__(self, "__dict__"):
                if _literal(value):
                    parts.setdefault(path, Part(path, {})).settings[name] = value
                elif not (isinstance(value, (Tensor, nn.Module, list, tuple)) or callable(value)):
                    kind = type(value).__name__
                    raise NotCapturedError(
                        f"forward() reads {name}, a {kind}, which a file could not compare"
                    )
            return value

        return type(cls.__name__, (cls,), {"__getattribute__": read, "__module__": cls.__module__})

    try:
        for m in modules:
            m.__class__ = classes.setdefault(type(m), watching(type(m)))
        yield_parts: list[Part] = []
        yield yield_parts
        yield_parts += parts.values()
    finally:
        for m in modules:
            m.__class__ = type(m).__bases__[0]


# ---- both --------------------------------------------------------------------------------------


def trace(module: nn.Module, arguments: dict[str, Any], forward: Forward) -> Trace:
    """Both runs of forward(arguments by name), which calls the module's forward().

    NotCapturedError says why there is no trace.
    """
    state = ModuleState(module)
    hook = state.hook()
    if hook:
        raise NotCapturedError(f"a hook is registered on {hook}")
    capture, made = _capture(state, forward, arguments)
    with _watched(module) as parts:
        symbolic = _Symbolic(forward, arguments)
    sizes: dict[int, tuple[int | Size, ...]] = {}
    for part in parts:
        for name, parameter in module.get_submodule(part.path)._parameters.items():
            if parameter is None:
                part.settings[name] = None
    names = list(arguments)
    for value, position in capture.arguments.items():
        sizes[value] = symbolic.sizes(symbolic.arguments[names[position]])
    for value, tensor in capture.held.items():
        sizes[value] = tuple(tensor.shape)
    calls = []
    if [m[0] for m in made] != [m[0] for m in symbolic.calls]:
        raise NotCapturedError("forward() calls other functions at other sizes")
    for (func, given, result, values), (_, same, shaped, _) in zip(
        made, symbolic.calls, strict=True
    ):
        leaves, spec = pytree.tree_flatten(given)
        twins = pytree.tree_leaves(same)
        if not values or len(leaves) != len(twins):
            continue
        merged = [_merged(a, b, symbolic, state) for a, b in zip(leaves, twins, strict=True)]
        args, kwargs = pytree.tree_unflatten(merged, spec)
        single = isinstance(result, Ref)
        flat = isinstance(result, (tuple, list)) and all(isinstance(x, Ref) for x in result)
        results = [x.index for x in pytree.tree_leaves(result) if isinstance(x, Ref)]
        tensors = [x for x in pytree.tree_leaves(shaped) if isinstance(x, Tensor)]
        for index, tensor in zip(results, tensors, strict=False):
            sizes.setdefault(index, symbolic.sizes(tensor))
        calls.append(Call(func, args, kwargs, results, single or flat, single, values))
    return Trace(capture, calls, sizes, symbolic.conditions(), parts)


def _merged(concrete: Any, symbolic_leaf: Any, symbolic: _Symbolic, state: ModuleState) -> Any:
    """An argument of a call: a Ref, a Parameter, a Size, or the value itself."""
    if isinstance(concrete, Tensor):
        return Parameter(state.tensors.get(id(concrete), ""))
    if isinstance(concrete, Ref):
        return concrete
    return symbolic.size(symbolic_leaf)
