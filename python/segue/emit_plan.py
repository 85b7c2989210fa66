"""What a file holds: the steps of a trace, with programs for its regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from . import _core, precision
from .emit_forward import Region, Step
from .emit_trace import Trace
from .lower import bind, lower
from .programs import core_layout
from .runtime import _check_types, _slice
from .trace import Node, NotCapturedError

LIBRARY = "library:"  # how the core says that PyTorch's own anchor is faster


@dataclass(frozen=True)
class Wanted:
    """What to compile for."""

    gpu: str | None  # architecture, "sm_90a", or device, "0"; None: the CPU
    precision: str  # class of float32 convolutions: "match", or a class


@dataclass
class Compiled:
    """One region and its program."""

    region: Region
    nodes: list[Node]
    graph: _core.Graph
    layouts: list[Any]  # of its inputs, as the core takes them
    program: _core.Program
    precision: str | None  # class of its convolution; None where its dtype leaves no choice


@dataclass
class Plan:
    """Steps in order of execution, and the regions among them."""

    steps: list[Step]
    regions: list[Compiled]
    reasons: list[str]  # why regions are left to PyTorch


def make_plan(trace: Trace, name: str, wanted: Wanted) -> Plan:
    """Partitions and compiles. NotCapturedError when something does not fit."""
    left: dict[int, str] = {}
    while True:
        plan, library = _make_plan(trace, name, wanted, left)
        if not library:
            return plan
        left |= library


def _make_plan(
    trace: Trace, name: str, wanted: Wanted, left: Mapping[int, str]
) -> tuple[Plan, dict[int, str]]:
    capture = trace.capture
    lowered = lower(capture, name, list(left))
    graph = _core.Graph(lowered.text)
    _check_types(graph, capture, lowered)
    by_name = {name: value for value, name in lowered.names.items()}
    plan, library = Plan([], [], list(left.values())), {}
    there = {*capture.arguments, *capture.held}
    there |= {v for v, value in enumerate(capture.values) if value.fixed is not None}

    def add(step: Step) -> None:
        plan.steps.append(step)
        made = step.region.outputs if step.region else [r for n in step.nodes for r in n.results]
        there.update(v for v in made if v is not None)

    def provide(value: int, twin: int) -> None:
        """Makes a value of which simplification left an equal one, which may lie otherwise."""
        if value == twin or value in there:
            return
        if capture.values[value].layout == capture.values[twin].layout:
            add(Step([], alias={value: twin}))
            there.add(value)
        else:
            add(Step(_slice(capture, list(there), [value])))

    steps, _, result_names = graph.partition()
    for foreign, tag, input_names, output_names, region, _ in steps:
        if foreign and tag < 0:
            continue  # takes one result of several, which are there already
        if foreign:
            for value, given in zip(lowered.operands[tag], input_names, strict=True):
                provide(value, by_name.get(given, value))
            add(Step([capture.nodes[tag]]))
            continue
        assert region is not None
        inputs = [by_name[n] for n in input_names]
        outputs = [by_name[n] for n in output_names]
        nodes = _slice(capture, inputs, outputs)
        made = _compiled(trace, region, inputs, outputs, nodes, wanted)
        if isinstance(made, Compiled):
            plan.regions.append(made)
            add(Step(nodes, made.region))
            continue
        anchor = _anchor(nodes)
        if made.startswith(LIBRARY) and anchor is not None:
            library[capture.nodes.index(anchor)] = made
        plan.reasons.append(made)
        add(Step(nodes))
    for value, given in zip(capture.outputs, result_names, strict=True):
        provide(value, by_name[given])
    return plan, library


def _compiled(
    trace: Trace,
    graph: _core.Graph,
    inputs: Sequence[int],
    outputs: Sequence[int],
    nodes: list[Node],
    wanted: Wanted,
) -> Compiled | str:
    values = trace.capture.values
    layouts = [values[v].layout for v in (*inputs, *outputs)]
    if any(values[v].fixed is not None for v in inputs):
        return "it reads a tensor of constants that forward() makes"
    if not all(_contiguous(layout) for layout in layouts):
        return "a tensor of it is not contiguous"
    anchor = _anchor(nodes)
    single = anchor is not None and values[anchor.operands()[0]].dtype == torch.float32
    taken = _precision(trace, anchor, wanted) if single and anchor else None
    ins = [core_layout(values[v].layout) for v in inputs]
    outs = [core_layout(values[v].layout) for v in outputs]
    # For the CPU there is but C, which is asked for by name; whether it gains is not judged.
    how: dict[str, Any] = {"always": True}
    if wanted.gpu is not None:
        how = {"gpu": wanted.gpu, "precision": taken}
    try:
        program = _core.Program(graph, ins, outs, **how)
        graph.emit(ins, "region", gpu=wanted.gpu, precision=taken)  # not all can be
    except _core.NotApplicable as reason:
        return str(reason)
    region = Region([_word(n) for n in nodes], list(inputs), list(outputs))
    return Compiled(region, nodes, graph, ins, program, taken)


def _precision(trace: Trace, anchor: Node, wanted: Wanted) -> str:
    """The class of a float32 convolution: named, or PyTorch's own where a GPU can be asked."""
    if wanted.precision != precision.MATCH:
        return wanted.precision
    if not torch.cuda.is_available():
        return precision.FP32
    given = {argument.name: value for argument, value in bind(anchor)}
    if given["transposed"]:
        return precision.FP32
    x, weight = (trace.capture.values[given[n].index].layout for n in ("input", "weight"))
    convolution = precision.Convolution(
        (tuple(x[0]), x[1]),
        (tuple(weight[0]), weight[1]),
        given["bias"] is not None,
        tuple(given["stride"]),
        tuple(given["padding"]),
        tuple(given["dilation"]),
        given["groups"],
    )
    return precision.class_of(convolution, torch.cuda.current_device())


def _contiguous(layout: Any) -> bool:
    shape, stride = layout[:2]
    expected = 1
    for n, s in zip(reversed(shape), reversed(stride), strict=True):
        if n != 1 and s != expected:
            return False
        expected *= n
    return True


def _anchor(nodes: Sequence[Node]) -> Node | None:
    return next((n for n in nodes if n.target is torch.ops.aten.convolution.default), None)


def _word(node: Node) -> str:
    """An operator's name as people know it."""
    name = node.target._schema.name.split("::")[-1].strip("_")
    if name == "convolution":
        given = node.args[3]
        return f"conv{len(given)}d"
    return str(name)


__all__ = ["Compiled", "NotCapturedError", "Plan", "Wanted", "make_plan"]
