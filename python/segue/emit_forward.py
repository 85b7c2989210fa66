"""forward() of an emitted class: PyTorch's functions as the model called them, and fused regions.

What is not fused is written as the calls that forward(), or the modules it calls, made of PyTorch's
functions; an operator whose call is partly fused, or writes in place, as ATen's operator.
"""

from __future__ import annotations

import builtins
import keyword
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import resolve_name

from .emit_trace import Call, Parameter, Size, Trace
from .trace import Node, NotCapturedError, Ref

_OPERATORS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "true_divide": "/", "matmul": "@",
    "pow": "**", "__truediv__": "/", "__floordiv__": "//", "__mod__": "%", "__and__": "&",
    "__or__": "|", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
}  # fmt: skip
_REVERSED = {"__radd__": "+", "__rsub__": "-", "__rmul__": "*", "__rdiv__": "/", "__rpow__": "**"}
_UNARY = {"neg": "-", "__invert__": "~"}
_INDENT = "        "


@dataclass
class Region:
    """A region as a function of the file: its operators, and the tensors it takes and makes."""

    operators: list[str]
    inputs: list[int]
    outputs: list[int]
    name: str = ""
    parameters: list[str] = field(default_factory=list)  # names of the inputs in the function


@dataclass
class Step:
    """Operators that PyTorch runs, or a region; in order of execution."""

    nodes: list[Node]
    region: Region | None = None
    alias: dict[int, int] = field(default_factory=dict)  # value -> the equal one that is there


class Names:
    """Names that are given once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def new(self, wanted: str) -> str:
        """`wanted`, or it with a number."""
        word = "".join(c if c.isalnum() and c.isascii() else "_" for c in wanted).strip("_")
        word = word if word and not word[0].isdigit() else f"t{word}"
        if keyword.iskeyword(word) or hasattr(builtins, word):
            word += "_"
        name, number = word, 1
        while name in self._taken:
            number += 1
            name = f"{word}{number}"
        self._taken.add(name)
        return name


class Body:
    """The statements of forward() for one trace and its steps."""

    def __init__(
        self,
        trace: Trace,
        module: nn.Module,
        steps: Sequence[Step],
        arguments: Mapping[int, str],
        taken: Iterable[str],
    ) -> None:
        """arguments: value -> its expression; taken: names that mean something else."""
        self._trace = trace
        self._module = module
        self._steps = steps
        self._made: set[int] = set()
        self._arguments = arguments
        self._alias: dict[int, int] = {}
        self._taken = [*taken, *(a.split("[")[0] for a in arguments.values())]
        self._statements: list[_Statement] = []
        self._foreign = {id(n) for s in steps if s.region is None for n in s.nodes}
        self._calls = self._whole_calls()

    def write(self) -> list[str]:
        """The statements; NotCapturedError where something has no spelling."""
        for step in self._steps:
            self._alias |= step.alias
            if step.region is not None:
                self._write_region(step.region)
                continue
            for node in step.nodes:
                self._write_node(node)
        self._statements.append(_Statement([], f"{self._result()}", ""))
        return self._named()

    # ---- statements ------------------------------------------------------------------------------

    def _write_region(self, region: Region) -> None:
        operands = ", ".join(self.expression(v) for v in region.inputs)
        call = f'run_kernel("{region.name}", {operands})'
        self._assign(region.outputs, call, region.operators[-1])

    def _write_node(self, node: Node) -> None:
        found = self._calls.get(id(node))
        if found is None:
            self._write_operator(node)
            return
        call, last = found
        if node is not last:
            return
        text = self._spelled(call)
        read = self._read()
        used = [(i, v) for i, v in enumerate(call.results) if v in read]
        name = (resolve_name(call.func) or "result").split(".")[-1]
        if call.single:
            self._assign(call.results, text, name)
        elif len(used) == 1:
            self._assign([used[0][1]], f"{text}[{used[0][0]}]", name)
        else:
            self._assign(call.results, text, name)

    def _write_operator(self, node: Node) -> None:
        """As ATen has it."""
        if node.in_place and node.results[0] is not None:
            target = node.operands()[0]
            layouts = [self._trace.capture.values[v].layout for v in (target, node.results[0])]
            if layouts[0] != layouts[1]:
                raise NotCapturedError(f"{node.target} changes a tensor's layout in place")
        words = [self.show(a) for a in node.args]
        words += [f"{k}={self.show(a)}" for k, a in node.kwargs.items()]
        for leaf in torch.utils._pytree.tree_leaves((node.args, node.kwargs)):
            if type(leaf) is int and leaf > 1 and not self._static(node):
                raise NotCapturedError(f"{node.target} takes sizes that a file could not follow")
        text = f"torch.ops.{node.target}({', '.join(words)})"
        name = node.target._schema.name.split("::")[-1]
        read = self._read()
        used = [(i, v) for i, v in enumerate(node.results) if v is not None and v in read]
        if node.single:
            self._assign([used[0][1]], text, name)
        elif len(used) == 1:
            self._assign([used[0][1]], f"{text}[{used[0][0]}]", name)
        else:
            raise NotCapturedError(f"{node.target} has several results")

    def _static(self, node: Node) -> bool:
        """Whether a node's integers are no sizes: those of views and of new tensors may be."""
        names = ("size", "shape", "self_size", "sizes", "start", "end", "length", "repeats")
        return not any(a.name in names for a in node.target._schema.arguments)

    def _assign(self, values: Sequence[int], text: str, wanted: str) -> None:
        """wanted: a name for results, where there are several."""
        self._made.update(values)
        wanted = wanted if len(values) > 1 else "y"
        self._statements.append(_Statement(list(values), text, wanted))

    def _named(self) -> list[str]:
        """The statements with names for their values.

        A result takes the name of an operand that is not needed any more, as people write it.
        """
        uses = [s.uses(self._arguments) for s in self._statements]
        names = Names(self._taken)
        known = dict(self._arguments)
        lines = []
        for i, statement in enumerate(self._statements):
            later = set().union(*uses[i + 1 :])
            text = _VALUE.sub(lambda found: known[int(found[1])], statement.text)
            if not statement.values:
                lines.append(f"return {text}")
                break
            dying = [
                known[v] for v in statement.operands() if v not in later and known[v].isidentifier()
            ]
            single = len(statement.values) == 1
            for value in statement.values:
                if value not in later:
                    known[value] = "_"
                else:
                    known[value] = dying[0] if dying and single else names.new(statement.wanted)
            lines.append(f"{', '.join(known[v] for v in statement.values)} = {text}")
        if len(lines) > 1 and lines[-2].startswith(f"{lines[-1][7:]} = "):
            lines[-2:] = [f"return {lines[-2].split(' = ', 1)[1]}"]
        return lines

    # ---- expressions -----------------------------------------------------------------------------

    def expression(self, value: int) -> str:
        """A value as an operand."""
        value = self._alias.get(value, value)
        if value in self._made or value in self._arguments:
            return f"\0{value}\0"
        capture = self._trace.capture
        if value in capture.held:
            return reference(self._module, capture.names[value], capture.held[value])
        fixed = capture.values[value].fixed
        if fixed is None:
            raise NotCapturedError("a value is needed before it is there")
        if fixed.dim() > 0:
            raise NotCapturedError("forward() makes a tensor of constants")
        return f"torch.tensor({show_number(fixed.item())}, dtype={fixed.dtype})"

    def show(self, x: Any) -> str:
        """An argument."""
        if isinstance(x, Ref):
            return self.expression(x.index)
        if isinstance(x, Parameter):
            if not x.path:
                raise NotCapturedError("forward() uses a tensor that is not the module's")
            return reference(self._module, x.path, None)
        if isinstance(x, Size):
            return x.text
        if isinstance(x, (list, tuple, torch.Size)):
            inner = ", ".join(map(self.show, x))
            tail = "," if len(x) == 1 and not isinstance(x, list) else ""
            return f"[{inner}]" if isinstance(x, list) else f"({inner}{tail})"
        if isinstance(x, slice):
            parts = [x.start, x.stop, *([x.step] if x.step is not None else [])]
            return ":".join("" if p is None else self.show(p) for p in parts)
        return show_literal(x)

    def _spelled(self, call: Call) -> str:
        """A call of a function of PyTorch's as people write it."""
        whole = resolve_name(call.func)
        if whole is None or not whole.startswith("torch."):
            raise NotCapturedError(f"{call.func} has no name")
        *_, owner, name = whole.split(".")
        if name == "__get__":
            return f"{self.show(call.args[0])}.{owner}"
        if name == "__getitem__":
            index = call.args[1]
            words = index if isinstance(index, tuple) else (index,)
            return f"{self.show(call.args[0])}[{', '.join(map(self.show, words))}]"
        keywords = [f"{k}={self.show(a)}" for k, a in call.kwargs.items()]
        if owner != "Tensor":
            return f"{whole}({', '.join([*map(self.show, call.args), *keywords])})"
        first, *others = map(self.show, call.args)
        if name in _UNARY and not others:
            return f"{_UNARY[name]}{first}"
        if len(others) == 1 and not keywords and name in _OPERATORS:
            return f"{first} {_OPERATORS[name]} {others[0]}"
        if len(others) == 1 and not keywords and name in _REVERSED:
            return f"{others[0]} {_REVERSED[name]} {first}"
        return f"{first}.{name}({', '.join([*others, *keywords])})"

    def _result(self) -> str:
        """The result, with names in the place of tensors."""
        capture = self._trace.capture
        words = [_Word(self.expression(v)) for v in capture.outputs]
        if capture.rebuild is None:
            return words[0].text
        made: Any = capture.rebuild(words)  # type: ignore[arg-type]
        if not _builtin(made):
            raise NotCapturedError(f"forward() returns a {type(made).__name__}")
        return _structure(made, outermost=True)

    # ---- calls -----------------------------------------------------------------------------------

    def _read(self) -> set[int]:
        read = {v for n in self._trace.capture.nodes for v in n.operands()}
        read |= {v for s in self._steps if s.region for v in s.region.inputs}
        return read | set(self._trace.capture.outputs)

    def _whole_calls(self) -> dict[int, tuple[Call, Node]]:
        """Node -> the call that issued it and the last of the call's nodes, if PyTorch runs all.

        Not where an operator writes in place: what is fused may need the old value.
        """
        order = [n for s in self._steps if s.region is None for n in s.nodes]
        found: dict[int, tuple[Call, Node]] = {}
        for call in self._trace.calls:
            nodes = [
                n for n in self._trace.capture.nodes
                if any(r is not None and r in call.values for r in n.results)
            ]  # fmt: skip
            whole = all(id(n) in self._foreign and not n.in_place for n in nodes)
            if nodes and whole and call.flat and _speakable(call):
                last = max(nodes, key=lambda n: next(i for i, m in enumerate(order) if m is n))
                found |= {id(n): (call, last) for n in nodes}
        return found


_VALUE = re.compile("\0(\\d+)\0")


@dataclass
class _Statement:
    """`values = text`, or what is returned; in text, values are numbers between zero bytes."""

    values: list[int]
    text: str
    wanted: str  # a name

    def operands(self) -> list[int]:
        """Values that text reads, in order."""
        return list(dict.fromkeys(int(n) for n in _VALUE.findall(self.text)))

    def uses(self, arguments: Mapping[int, str]) -> set[int]:
        """The same and the arguments whose sizes it names."""
        sized = {v for v, name in arguments.items() if f"{name}.shape[" in self.text}
        return {*self.operands(), *sized}


@dataclass
class _Word:
    text: str


def _builtin(value: Any) -> bool:
    """Whether a structure of results can be written down."""
    if type(value) in (list, tuple):
        return all(map(_builtin, value))
    if type(value) is dict:
        return all(type(k) is str and _builtin(v) for k, v in value.items())
    return isinstance(value, _Word) or type(value) in (bool, int, float, str, type(None))


def _structure(value: Any, outermost: bool = False) -> str:
    """A structure of results as people write it."""
    if type(value) in (list, tuple):
        inner = ", ".join(map(_structure, value))
        if type(value) is list:
            return f"[{inner}]"
        return inner if outermost and len(value) > 1 else f"({inner}{',' * (len(value) == 1)})"
    if type(value) is dict:
        return "{" + ", ".join(f'"{k}": {_structure(v)}' for k, v in value.items()) + "}"
    return value.text if isinstance(value, _Word) else show_literal(value)


def _speakable(call: Call) -> bool:
    name = resolve_name(call.func)
    return bool(name) and name.startswith("torch.") and "_" not in name.split(".")[1][:1]


def show_number(value: float) -> str:
    """A number as Python reads it back."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)


def show_literal(x: Any) -> str:
    """A value that is no tensor; NotCapturedError where it has no spelling."""
    if x is Ellipsis:
        return "..."
    if isinstance(x, str) and x.isprintable() and not set(x) & set('"\\'):
        return f'"{x}"'
    if isinstance(x, (bool, str, type(None))):
        return repr(x)
    if type(x) in (int, float):
        return show_number(x)
    if isinstance(x, (torch.dtype, torch.memory_format, torch.layout)):
        return str(x)
    if isinstance(x, (list, tuple)):
        inner = ", ".join(map(show_literal, x))
        tail = "," if len(x) == 1 and isinstance(x, tuple) else ""
        return f"[{inner}]" if isinstance(x, list) else f"({inner}{tail})"
    if isinstance(x, dict):
        return "{" + ", ".join(f"{show_literal(k)}: {show_literal(v)}" for k, v in x.items()) + "}"
    raise NotCapturedError(f"forward() uses a {type(x).__name__}, which has no spelling in a file")


def reference(module: nn.Module, path: str, tensor: Any, root: str = "self") -> str:
    """The expression for what lies at a path of a module: `self.blocks[0].conv.weight`."""
    text, here, rest = root, module, path
    while rest:
        here, rest, how = _next(here, rest)
        text += how
    if tensor is not None and here is not tensor:
        raise NotCapturedError(f"{path} of the module has no expression")
    return text


def _next(here: Any, rest: str) -> tuple[Any, str, str]:
    """The next step along a path: names may hold dots where they are keys."""
    parts = rest.split(".")
    for count in range(1, len(parts) + 1):
        name, left = ".".join(parts[:count]), ".".join(parts[count:])
        if isinstance(here, (nn.Sequential, nn.ModuleList, nn.ParameterList, list, tuple)):
            if name.isdigit() and int(name) < len(here):
                return here[int(name)], left, f"[{name}]"
        elif isinstance(here, (nn.ModuleDict, nn.ParameterDict, dict)):
            if name in here:
                return here[name], left, f"[{show_literal(name)}]"
        elif name.isidentifier() and hasattr(here, name):
            return getattr(here, name), left, f".{name}"
    raise NotCapturedError(f"{rest} of the module has no expression")
