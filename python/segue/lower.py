"""From a capture to Segue's text form, by the operator table and nothing else.

A node that a row of the table matches becomes that row's operator; any other becomes `foreign`,
which PyTorch runs. What decides is in the rows (see src/ir/ops.def): the overload's name, which
of its arguments are attributes, and what the remaining ones must be.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch

from . import _core
from .capture import Capture
from .trace import Node, Ref

DTYPES = {
    torch.bool: "bool",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.float32: "f32",
    torch.float64: "f64",
}

_RULE = re.compile(r"^([\w.]+)(?:\(([^)]*)\))?(\[0\])?$")


@dataclass(frozen=True)
class Rule:
    """One overload that means one row of the table."""

    row: dict[str, Any]
    overload: str  # "min.dim"
    requirements: dict[str, str]  # argument -> the value it must have, "*" for any
    first_of_several: bool


@functools.cache
def rules() -> dict[str, list[Rule]]:
    """All rules of the table, by overload name without namespace."""
    found: dict[str, list[Rule]] = {}
    for row in json.loads(_core.operators_json()):
        for word in row.get("torch", "").split():
            match = _RULE.match(word)
            if match is None:
                raise _core.SegueError(f"operator {row['name']}: {word!r} names no overload")
            overload, conditions, first = match.groups()
            requirements = (
                dict(c.split("=", 1) for c in conditions.split(",")) if conditions else {}
            )
            found.setdefault(overload, []).append(Rule(row, overload, requirements, bool(first)))
    return found


def overload_of(rule: Rule) -> Any:
    """The overload in this PyTorch, or None."""
    packet, name = rule.overload.rsplit(".", 1)
    return getattr(getattr(torch.ops.aten, packet, None), name, None)


@dataclass
class Lowered:
    """A capture in text form."""

    text: str
    names: dict[int, str]  # value -> its name in the text
    inputs: list[int]  # values that are inputs of the graph, in order
    operands: dict[int, list[int]]  # node left to PyTorch -> values its statement names, in order


class _Unmatched(Exception):  # noqa: N818
    """A rule does not fit a node."""


def lower(capture: Capture, name: str, left: Collection[int] = ()) -> Lowered:
    """The text of a capture; name: of the graph, any string; left: nodes that PyTorch shall run."""
    return _Writer(capture).write(name, left)


class _Writer:
    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.names: dict[int, str] = {}
        self.inputs: list[int] = []
        self.lines: list[str] = []
        self.operands: dict[int, list[int]] = {}
        self._taken: set[str] = set()

    def write(self, name: str, left: Collection[int]) -> Lowered:
        body: list[str] = []
        for tag, node in enumerate(self.capture.nodes):
            start = len(self.lines)
            if tag in left or not self._match(node):
                self._foreign(tag, node)
            body += self.lines[start:]
        inputs: list[str] = []
        others: list[str] = []
        for line in body:
            (inputs if " = input" in line else others).append(line)
        outputs = ", ".join(f"%{self.names[v]}" for v in self.capture.outputs)
        lines = [f"graph {_word(name)} {{", *inputs, *others, f"  output {outputs}", "}", ""]
        return Lowered("\n".join(lines), self.names, self.inputs, self.operands)

    def _name(self, value: int, wanted: str) -> str:
        name = self._free(wanted)
        self.names[value] = name
        return name

    def _free(self, wanted: str) -> str:
        """A name that is not taken, and is now."""
        name = _word(wanted)
        if name in self._taken:
            number = 1
            while f"{name}_{number}" in self._taken:
                number += 1
            name = f"{name}_{number}"
        self._taken.add(name)
        return name

    def _type(self, value: int) -> str:
        v = self.capture.values[value]
        if v.dtype not in DTYPES or len(v.shape) > 8:
            return "opaque"
        return f"{DTYPES[v.dtype]}[{', '.join(map(str, v.shape))}]"

    def _known(self, value: int) -> bool:
        """Whether Segue can hold the value."""
        return self._type(value) != "opaque"

    def _operand(self, value: int) -> str:
        """A value as an operand; makes the input or constant that it is."""
        if value in self.names:
            return f"%{self.names[value]}"
        v = self.capture.values[value]
        if v.fixed is not None and not v.shape and v.dtype.is_floating_point:
            name = self._name(value, "constant")
            number = _number(v.fixed.item())
            self.lines.append(
                f"  %{name} = constant {{value={number}, weak=false}} : {self._type(value)}"
            )
        else:
            self._input(value)
        return f"%{self.names[value]}"

    def _input(self, value: int) -> None:
        wanted = self.capture.names.get(value, "constant")
        name = self._name(value, wanted)
        param = "" if value in self.capture.arguments else " {param=true}"
        self.inputs.append(value)
        self.lines.append(f"  %{name} = input{param} : {self._type(value)}")

    # ---- operators of the table --------------------------------------------------------------

    def _match(self, node: Node) -> bool:
        schema = node.target._schema
        if schema.name.split("::")[0] != "aten":
            return False
        key = f"{schema.name.split('::')[1]}.{schema.overload_name or 'default'}"
        for rule in rules().get(key, []):
            result = node.results[0]
            others = any(r is not None and self._is_read(r) for r in node.results[1:])
            if result is None or not self._known(result) or others:
                continue
            if len(node.results) > 1 and not rule.first_of_several:
                continue
            start = len(self.lines)
            try:
                statement = self._statement(rule, node)
            except _Unmatched:
                del self.lines[start:]
                continue
            name = self._name(result, rule.row["name"])
            # The declared type is checked against the library's own inference.
            self.lines.append(f"  %{name} = {statement} : {self._type(result)}")
            return True
        return False

    def _is_read(self, value: int) -> bool:
        return value in self.capture.outputs or any(
            value in node.operands() for node in self.capture.nodes
        )

    def _statement(self, rule: Rule, node: Node) -> str:
        row = rule.row
        attributes = {a["name"]: a for a in row["attributes"]}
        given: dict[str, str] = {}
        operands: list[Any] = []
        lists: list[Any] = []
        converted = _converted(row, node)
        for argument, value in bind(node):
            spec = attributes.get(argument.name)
            if converted and argument.name in ("dtype", "half_to_float"):
                continue
            if self._idle(argument.name, value, node):
                continue
            if argument.name in rule.requirements:
                _require(value, rule.requirements[argument.name])
            elif spec is not None:
                if value is not None and value != spec["initial"]:
                    given[argument.name] = self._attribute(spec, value)
            elif len(operands) < row["arity"] and not isinstance(value, (list, str, torch.dtype)):
                operands.append(value)
            elif isinstance(value, list) and "int" in str(argument.type).lower():
                lists.append(value)
            else:
                _require(value, _default(argument))
        # A list under another name, such as the size of a view, is the list still missing.
        missing = [a for n, a in attributes.items() if a["kind"] == "list" and n not in given]
        for value in lists:
            if len(lists) != 1 or len(missing) != 1:
                raise _Unmatched
            given[missing[0]["name"]] = self._attribute(missing[0], value)
        return self._spelled(row, operands, given, converted)

    def _idle(self, name: str, value: Any, node: Node) -> bool:
        """Whether an argument asks for what a tensor is anyway, as PyTorch's own casts do."""
        if name == "layout":
            return value is torch.strided
        if name == "pin_memory":
            return value is False
        if name == "memory_format":
            return value is torch.preserve_format
        if name != "device" or value is None:
            return False
        every = [v for v in (*node.operands(), *node.results) if v is not None]
        return len({self.capture.values[v].layout[3] for v in every}) == 1

    def _spelled(
        self,
        row: dict[str, Any],
        operands: list[Any],
        given: dict[str, str],
        converted: torch.dtype | None,
    ) -> str:
        while operands and operands[-1] is None:
            operands.pop()
        # All operands are judged before one of them makes an input of the graph.
        tensors = [x.index for x in operands if isinstance(x, Ref)]
        if not all(self._known(v) or self._weak(v) is not None for v in tensors):
            raise _Unmatched
        if not any(self._known(v) for v in tensors):
            raise _Unmatched
        words = []
        for x in operands:
            if converted and isinstance(x, Ref):
                words.append(self._cast(x.index, converted))
            elif x is None:
                words.append("none")
            elif isinstance(x, Ref):
                weak = self._weak(x.index)
                words.append(self._operand(x.index) if weak is None else weak)
            elif isinstance(x, (bool, int, float)):
                words.append(_number(float(x)))
            else:
                raise _Unmatched
        attributes = ", ".join(f"{k}={v}" for k, v in given.items())
        return f"{row['name']} {', '.join(words)}" + (f" {{{attributes}}}" if attributes else "")

    def _cast(self, value: int, dtype: torch.dtype) -> str:
        """A value in another dtype, as an operand."""
        source = self._operand(value)
        name = self._free(f"{source[1:]}_{DTYPES[dtype]}")
        shape = ", ".join(map(str, self.capture.values[value].shape))
        kind = DTYPES[dtype]
        self.lines.append(f"  %{name} = cast {source} {{dtype={kind}}} : {kind}[{shape}]")
        return f"%{name}"

    def _weak(self, value: int) -> str | None:
        """An integer constant of rank 0 promotes like a Python number among floating tensors."""
        v = self.capture.values[value]
        if v.fixed is None or v.shape or v.dtype.is_floating_point or v.dtype == torch.bool:
            return None
        if v.dtype.is_complex or v.dtype.is_signed is False:
            return None
        return _number(float(v.fixed.item()))

    def _attribute(self, spec: dict[str, Any], value: Any) -> str:
        kind = spec["kind"]
        if kind in ("list", "spatial"):
            values = value if isinstance(value, (list, tuple)) else [value]
            if not all(type(x) is int for x in values):
                raise _Unmatched
            return f"[{', '.join(map(str, values))}]"
        if kind == "dtype":
            if value not in DTYPES:
                raise _Unmatched
            return DTYPES[value]
        if kind == "bool" and isinstance(value, bool):
            return str(value).lower()
        if kind == "int" and type(value) is int:
            return str(value)
        if kind == "float" and isinstance(value, (bool, int, float)):
            return _number(float(value))
        raise _Unmatched

    # ---- operators of the host ---------------------------------------------------------------

    def _foreign(self, tag: int, node: Node) -> None:
        operands = []
        self.operands[tag] = []
        for value in node.operands():
            made = value in self.names
            argument = self.capture.values[value].fixed is None and self._known(value)
            # Constants and what Segue cannot hold are the host's alone; it knows them by itself.
            if made or (argument and not self._made_by_host(value)):
                operands.append(self._operand(value))
                self.operands[tag].append(value)
        words = f" {', '.join(operands)}" if operands else ""
        packet = node.target._schema.name.split("::")[-1]
        if len(node.results) == 1 and node.results[0] is not None:
            name = self._name(node.results[0], packet)
            kind = self._type(node.results[0])
            self.lines.append(f"  %{name} = foreign{words} {{tag={tag}}} : {kind}")
            return
        # Several results: an opaque one, and each that is used taken from it (tag -1 - tag).
        whole = _word(packet)
        while whole in self._taken:
            whole += "_"
        self._taken.add(whole)
        self.lines.append(f"  %{whole} = foreign{words} {{tag={tag}}} : opaque")
        for result in node.results:
            if result is not None and self._is_read(result):
                name = self._name(result, packet)
                self.lines.append(
                    f"  %{name} = foreign %{whole} {{tag={-1 - tag}}} : {self._type(result)}"
                )

    def _made_by_host(self, value: int) -> bool:
        return value not in self.capture.arguments and value not in self.capture.held


def bind(node: Node) -> list[tuple[Any, Any]]:
    """(schema argument, value given or default) of a node."""
    bound = []
    for i, argument in enumerate(node.target._schema.arguments):
        if i < len(node.args):
            value = node.args[i]
        elif argument.name in node.kwargs:
            value = node.kwargs[argument.name]
        else:
            value = _default(argument)
        bound.append((argument, list(value) if isinstance(value, tuple) else value))
    return bound


def _converted(row: dict[str, Any], node: Node) -> torch.dtype | None:
    """The dtype that an operator of one operand converts it to as it begins; None: it does not.

    So do reductions that are told a dtype, and a softmax of halves that is to give floats.
    """
    given = {argument.name: value for argument, value in bind(node)}
    if given.get("half_to_float") is True:
        return torch.float32
    dtype = given.get("dtype")
    known = row["arity"] == 1 and row["name"] != "cast" and dtype in DTYPES
    return dtype if known else None


def _default(argument: Any) -> Any:
    return argument.default_value if argument.has_default_value() else None


def _require(value: Any, wanted: Any) -> None:
    """The value must be the one wanted, by value or as the table spells it."""
    if isinstance(wanted, str) and wanted == "*":
        return
    if isinstance(value, Ref) or (value != wanted and str(value) != str(wanted)):
        raise _Unmatched


def _number(value: float) -> str:
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return repr(value)


def _word(text: str) -> str:
    word = re.sub(r"[^\w.]", "_", text, flags=re.ASCII)
    return word if word and not word[0].isdigit() else f"_{word}"
