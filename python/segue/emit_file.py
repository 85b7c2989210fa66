"""The text of an emitted file, from its skeleton (emit_skeleton.txt) and what fills it."""

from __future__ import annotations

import ast
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch import nn

from .emit_forward import Names, reference, show_literal
from .emit_plan import Compiled
from .emit_source import Source, fold, pass_on, sorted_imports
from .emit_source import fill as fill_call
from .emit_trace import Part, Printer, Size, Trace
from .precision import FP32
from .trace import NotCapturedError

OWN_NAMES = [
    *("functools", "hashlib", "inspect", "warnings", "torch"),
    *("DECLARATIONS", "KERNELS", "BINDING", "TENSORS"),
    *("on_gpu", "plain", "expect_tf32", "expect_setting", "expect_module"),
    *("run_kernel", "build", "is_compiling"),
]
# Of the functions of the C++ binding, whose parameters the tensors are.
_LOCAL_NAMES = ["device", "guard", "given", "wrong", "workspace", "out"]
_IMPORTS = tuple(f"import {m}" for m in ("functools", "hashlib", "inspect", "warnings", "torch"))


@dataclass
class Parameter:
    """An input of a region's function: what is expected of it."""

    name: str
    dtype: torch.dtype
    sizes: list[str]  # Python expressions in the parameters before it; "None": any


@dataclass
class Function:
    """A region's function: what it expects, and the sizes of its results."""

    name: str
    operators: list[str]
    parameters: list[Parameter]
    results: list[tuple[torch.dtype, list[str]]]  # sizes as Python expressions
    precision: str | None


class _Sizes:
    """Sizes of a region's tensors in terms of its first tensor's, as far as they follow."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}  # formula in forward()'s symbols -> in the function's
        self._names: dict[Any, str] = {}

    def define(self, name: str, sizes: Sequence[int | Size], concrete: Sequence[int]) -> list[str]:
        """The first tensor's: whatever is not known is free."""
        words = []
        for dim, size in enumerate(sizes):
            if isinstance(size, int):
                words.append(str(size))
                continue
            found = self.find(size, concrete[dim])
            if found is not None:
                words.append(found)
                continue
            symbol = sympy.Symbol(f"n{len(self._names)}", integer=True, positive=True)
            self._names[symbol] = f"{name}.shape[{dim}]"
            self._learn(size.formula, symbol)
            words.append("None")
        return words

    def _learn(self, formula: Any, symbol: Any) -> None:
        self._known[formula] = symbol
        free = list(formula.free_symbols)
        offset = formula - free[0] if len(free) == 1 else None
        if offset is not None and offset.is_number:
            self._known[free[0]] = symbol - offset

    def find(self, size: int | Size, concrete: int) -> str | None:
        """A size as an expression; None where it does not follow."""
        if isinstance(size, int):
            return str(size)
        formula = self._known.get(size.formula)
        if formula is None:
            if not size.formula.free_symbols <= self._known.keys():
                return None
            formula = size.formula.subs(self._known)
        assert concrete >= 0
        return Printer(self._names).doprint(formula)


def function_of(trace: Trace, compiled: Compiled, names: Mapping[int, str]) -> Function:
    """What a region's function looks like; names: wanted for its inputs."""
    region, values = compiled.region, trace.capture.values
    given = Names([*OWN_NAMES, *_LOCAL_NAMES, *(f"out{i}" for i in range(len(region.outputs)))])
    sizes = _Sizes()
    order = sorted(region.inputs, key=lambda v: v in trace.capture.held)
    parameters = [
        Parameter(given.new(names.get(v, "x")), values[v].dtype, []) for v in region.inputs
    ]
    of = dict(zip(region.inputs, parameters, strict=True))
    for i, v in enumerate(order):
        concrete = list(values[v].shape)
        known = trace.sizes.get(v, tuple(concrete))
        if i == 0:
            of[v].sizes = sizes.define(of[v].name, known, concrete)
        else:
            pairs = zip(known, concrete, strict=True)
            of[v].sizes = [sizes.find(s, n) or str(n) for s, n in pairs]
    results = []
    for v in region.outputs:
        if v not in trace.sizes:
            raise NotCapturedError("the size of an intermediate result does not follow")
        found = [sizes.find(s, n) for s, n in zip(trace.sizes[v], values[v].shape, strict=True)]
        if None in found:
            raise NotCapturedError("the size of a result does not follow from its operands'")
        results.append((values[v].dtype, [str(s) for s in found]))
    region.parameters = [p.name for p in parameters]
    return Function(region.name, region.operators, parameters, results, compiled.precision)


# ---- parts of the file -------------------------------------------------------------------------


def rounds(functions: Sequence[Function]) -> bool:
    """Whether kernels take operands of fewer bits than PyTorch may want."""
    return any(f.precision not in (None, FP32) for f in functions)


def write_checks(
    trace: Trace,
    module: nn.Module,
    constants: Mapping[str, Any],
    functions: Sequence[Function],
) -> list[str]:
    """Statements that compare what forward() read with what it was."""
    lines = []
    for name, value in constants.items():
        lines.append(f"expect_setting({show_literal(name)}, {name}, {show_literal(value)})")
    for part in sorted(trace.parts, key=lambda p: p.path):
        lines += _check_of(part, module)
    for condition in trace.conditions:
        lines.append(f"expect_setting({show_literal(condition)}, {condition}, True)")
    return [*lines, *["expect_tf32()"] * rounds(functions)]


def _check_of(part: Part, module: nn.Module) -> list[str]:
    settings = {k: show_literal(v) for k, v in part.settings.items()}
    if not part.path:
        return [f'expect_setting("self.{k}", self.{k}, {v})' for k, v in settings.items()]
    where = reference(module, part.path, None)
    cls = type(module.get_submodule(part.path))
    kind = _class(cls, type(module).__module__)
    words = [show_literal(where), where, kind, *(f"{k}={v}" for k, v in settings.items())]
    return [f"expect_module({', '.join(words)})"]


def _class(cls: type, own: str) -> str:
    """A submodule's class as an expression, or its name as a string."""
    if getattr(nn, cls.__name__, None) is cls:
        return f"torch.nn.{cls.__name__}"
    if cls.__module__ == own and "<" not in cls.__qualname__:
        return cls.__qualname__
    return f'"{cls.__module__}.{cls.__qualname__}"'


def write_class(
    model: str,
    title: str,
    arguments: ast.arguments,
    tensors: Sequence[str],
    checks: Sequence[str],
    body: Sequence[str],
) -> str:
    """ModelNew. tensors: arguments that are some; body: of fused()."""
    signature, given = ast.unparse(arguments), pass_on(arguments)
    lines = [
        f'    """{title}"""',
        "",
        f"    def forward({signature}):",
        f'        """As {model}.forward()."""',
        "        try:",
        f"            if plain({', '.join(['self', *tensors])}):",
        f"                return self.fused({given})",
        "        except ValueError as reason:",
        '            said = f"ModelNew runs the original operators: {reason}."',
        "            warnings.warn(said, stacklevel=2)",
        f"        return super().forward({given})",
        "",
        f"    def fused({signature}):",
        f'        """{model}.forward() with one call for all operators of a kernel."""',
    ]
    lines += [fill_call(line, 8) for line in checks] + [fold(line, 8) for line in body]
    return "\n".join(lines)


def fill(source: Source, holes: Mapping[str, str]) -> str:
    """The whole file."""
    text = importlib.resources.files(__package__).joinpath("emit_skeleton.txt").read_text("utf-8")
    future = f"from __future__ import {', '.join(source.future)}\n\n" if source.future else ""
    made = []
    for line in text.splitlines():
        name = line.strip().removeprefix("#@ ") if line.strip().startswith("#@ ") else ""
        if name == "head":
            made += [holes["title"], "", future + sorted_imports([*_IMPORTS, *source.imports])]
        elif name and name in holes:
            if holes[name]:
                made.append(holes[name])
        elif name:
            raise KeyError(name)
        else:
            for word in ("file", "base", "name"):
                line = line.replace(f"@{word}@", holes[word])
            made.append(line)
    return "\n".join(made) + "\n"
