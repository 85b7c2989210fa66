"""From a capture to something that runs: programs for its regions, PyTorch for the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from . import _core, autocast, cuda, precision
from .capture import Capture
from .lower import DTYPES, Lowered, bind, lower
from .programs import Options, Target, core_layout, programs
from .trace import Layout, Node, NotCapturedError, Ref, layout_of, place_of

# How the library begins the reason where its own plan is: PyTorch's anchor, then one kernel.
_LIBRARY = "library:"
_SMALL_WORKSPACE = 1 << 16  # bytes


@dataclass
class StepReport:
    """What became of one step, for `explain`."""

    operators: list[str]
    program: _core.Program | None
    reason: str  # why it is left to PyTorch, or why the region ends where it ends
    precision: str | None = None  # class of the anchor, where its dtype leaves a choice
    library: Node | None = None  # PyTorch shall run this one, and Segue the rest of the region


@dataclass
class Plan:
    """How a capture runs. Exactly one of program and runner is set, unless the original runs."""

    capture: Capture
    lowered: Lowered
    steps: list[StepReport] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    layouts: list[Layout] = field(default_factory=list)
    binding: list[int] = field(default_factory=list)
    program: _core.Program | None = None
    outputs: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    runner: Callable[[tuple[Any, ...], tuple[Tensor, ...]], Any] | None = None
    device: int = -1  # the GPU that its regions run on
    switches: tuple[Any, ...] | None = None  # of PyTorch's, that its programs depend on

    @property
    def runs(self) -> bool:
        """Whether any of Segue's programs runs."""
        return self.program is not None or self.runner is not None


def make_plan(capture: Capture, name: str, options: Options, aligned: bool = True) -> Plan:
    """Lowers, partitions and compiles. NotCapturedError when something does not fit.

    aligned: whether every tensor that comes in is aligned as PyTorch aligns its own.
    """
    left: dict[int, str] = {}
    while True:
        plan = _make_plan(capture, name, options, aligned, left)
        found = {
            capture.nodes.index(step.library): step.reason for step in plan.steps if step.library
        }
        if not found:
            return plan
        left |= found


def _make_plan(
    capture: Capture, name: str, options: Options, aligned: bool, left: dict[int, str]
) -> Plan:
    lowered = lower(capture, name, left)
    graph = _core.Graph(lowered.text)
    _check_types(graph, capture, lowered)
    steps, _, output_names = graph.partition()
    by_name = {name: value for value, name in lowered.names.items()}
    plan = Plan(capture, lowered)
    try:
        whole = len(steps) == 1 and not steps[0][0] and steps[0][3] == output_names
        outputs = [by_name[name] for name in output_names]
        read = {by_name[name] for step in steps for name in step[2] if name in by_name}
        layouts = _result_layouts(capture, outputs, read)
        maker = _Maker(plan, by_name, options, aligned, left, layouts)
        made = [maker.make(step) for step in steps]
    except KeyError as error:
        raise NotCapturedError(f"the partition names an unknown value {error}") from None
    plan.steps = [report for _, report in made]
    if not any(report.program for report in plan.steps):
        return plan
    lying = [layouts.get(v, capture.values[v].layout) for v in outputs]
    expected = [capture.values[v].layout for v in capture.outputs]
    if whole and steps[0][4] is not None and lying == expected:
        _bind_whole(plan, [by_name[name] for name in steps[0][2]], expected)
        return plan
    read = _read_by_all(capture)
    for value, tensor in capture.held.items():
        if value in read:
            _hold(plan, value, tensor)
    runner = Runner(capture, [step for step, _ in made], outputs)
    plan.runner = runner
    return plan


def _result_layouts(capture: Capture, outputs: list[int], read: set[int]) -> dict[int, Layout]:
    """Layouts that values are made with as they stand for results that lie otherwise.

    Simplifying removes copies such as contiguous(), and outputs then holds the value copied. What
    nothing else wants, nor reads, is made with the copy's layout at once.
    """
    found = {}
    for value, made in zip(capture.outputs, outputs, strict=True):
        alone = made not in read and made not in capture.outputs and outputs.count(made) == 1
        if alone and capture.values[value].layout != capture.values[made].layout:
            found[made] = capture.values[value].layout
    return found


def _read_by_all(capture: Capture) -> set[int]:
    return {v for node in capture.nodes for v in node.operands()}


def _check_types(graph: _core.Graph, capture: Capture, lowered: Lowered) -> None:
    """The library must infer for each result what PyTorch gave."""
    inputs = [core_layout(capture.values[v].layout) for v in lowered.inputs]
    for value, (dtype, shape, _) in zip(capture.outputs, graph.infer(inputs), strict=True):
        expected = capture.values[value]
        name = DTYPES.get(expected.dtype, "opaque")
        if dtype != name or (name != "opaque" and shape != tuple(expected.shape)):
            raise NotCapturedError(
                f"the library infers {dtype}{list(shape)} for a result that is "
                f"{name}{list(expected.shape)} in PyTorch"
            )


def _hold(plan: Plan, value: int, tensor: Tensor) -> int:
    """Index among the plan's tensors, as a binding counts them."""
    plan.tensors.append(tensor)
    plan.layouts.append(plan.capture.values[value].layout)
    return -len(plan.tensors)


def _bind_whole(plan: Plan, inputs: list[int], outputs: list[Layout]) -> None:
    """The whole capture is one region: the program runs without Python in between."""
    capture = plan.capture
    for value in inputs:
        if value in capture.arguments:
            plan.binding.append(capture.arguments[value])
            continue
        held = capture.held.get(value)
        fixed = capture.values[value].fixed
        tensor = held if held is not None else fixed
        assert tensor is not None
        plan.binding.append(_hold(plan, value, tensor))
    plan.outputs = [_allocation(layout) for layout in outputs]
    plan.program = plan.steps[0].program


def _allocation(layout: Layout) -> tuple[Any, ...]:
    """Arguments and keywords for torch.empty_strided; on a GPU also arguments for its twin."""
    shape, stride, dtype, device = layout
    how = (tuple(shape), stride), {"dtype": dtype, "device": place_of(layout)}
    return how if device < 0 else (*how, (tuple(shape), stride, dtype))


def workspace_of(program: _core.Program, device: int) -> tuple[Any, ...] | None:
    """How a program's workspace is made, as _allocation says it; None: it needs none.

    Threads keep small ones, all of one size, under the name that comes last.
    """
    size = program.workspace
    if size == 0:
        return None
    if size <= _SMALL_WORKSPACE:
        how = _allocation((torch.Size([_SMALL_WORKSPACE]), (1,), torch.uint8, device))
        return (*how, f"segue workspace {device}")
    return _allocation((torch.Size([size]), (1,), torch.uint8, device))


# ---- graphs of several steps -----------------------------------------------------------------


class Step(Protocol):
    """One step of a Runner."""

    def run(self, values: dict[int, Tensor]) -> None:
        """Reads its inputs from values and puts its results there."""

    def reads(self) -> set[int]:
        """Values it reads."""


class HostStep:
    """Operators that PyTorch runs, one after the other."""

    def __init__(self, capture: Capture, nodes: list[Node], instead: dict[int, int]) -> None:
        self._capture = capture
        self._calls = [(n, [_getter(a, instead) for a in n.args], dict(n.kwargs)) for n in nodes]
        self._keyed = [
            {k: _getter(a, instead) for k, a in n.kwargs.items() if _has_ref(a)} for n in nodes
        ]
        self._reads = {instead.get(v, v) for n in nodes for v in n.operands()}

    def reads(self) -> set[int]:
        """Values it reads."""
        return self._reads

    def run(self, values: dict[int, Tensor]) -> None:
        """Runs the operators on what values holds."""
        for (node, getters, kwargs), keyed in zip(self._calls, self._keyed, strict=True):
            if keyed:
                kwargs = {**kwargs, **{k: get(values) for k, get in keyed.items()}}
            out = node.target(*[get(values) for get in getters], **kwargs)
            target = node.results[0]
            if node.in_place and target is not None:
                out = _lying_as(out, self._capture.values[target].layout)
            results = (out,) if node.single else out
            values.update(
                (i, x) for i, x in zip(node.results, results, strict=True) if i is not None
            )


def _lying_as(tensor: Tensor, layout: Layout) -> Tensor:
    """The values of tensor in the dtype and strides of layout."""
    if layout_of(tensor) == layout:
        return tensor
    shape, stride, dtype, _ = layout
    return torch.empty_strided(shape, stride, dtype=dtype, device=place_of(layout)).copy_(tensor)


class RegionStep:
    """A region that Segue runs; PyTorch does should an input lie otherwise than expected."""

    def __init__(
        self,
        capture: Capture,
        program: _core.Program,
        inputs: list[int],
        outputs: list[int],
        otherwise: HostStep,
        target: Target,
        layouts: dict[int, Layout],
    ) -> None:
        self._program = program
        self._device = target.device
        self._alignment = target.alignment
        self._workspace = workspace_of(program, target.device) if target.device >= 0 else None
        self._inputs = [(v, capture.values[v].layout) for v in inputs]
        self._outputs = [
            (v, *_allocation(layouts.get(v, capture.values[v].layout))[:2]) for v in outputs
        ]
        self._otherwise = otherwise

    def reads(self) -> set[int]:
        """Values it reads."""
        return {v for v, _ in self._inputs} | self._otherwise.reads()

    def run(self, values: dict[int, Tensor]) -> None:
        """Runs the program on new results."""
        inputs = [values[v] for v, _ in self._inputs]
        for tensor, (_, layout) in zip(inputs, self._inputs, strict=True):
            if layout_of(tensor) != layout:
                self._otherwise.run(values)
                return
        sources = [x.data_ptr() for x in inputs]
        if self._device >= 0 and any(address % self._alignment for address in sources):
            self._otherwise.run(values)
            return
        made = [torch.empty_strided(*args, **kwargs) for _, args, kwargs in self._outputs]
        targets = [x.data_ptr() for x in made]
        if self._device < 0:
            self._program.run(sources, targets, torch.get_num_threads())
        else:
            self._launch(sources, targets)
        for (value, _, _), tensor in zip(self._outputs, made, strict=True):
            values[value] = tensor

    def _launch(self, sources: list[int], targets: list[int]) -> None:
        """Enqueues the program; a workspace may go at once, for memory is reused in order."""
        stream = cuda.raw_stream(self._device)
        if self._workspace is None:
            self._program.launch(self._device, stream, sources, targets)
            return
        args, kwargs = self._workspace[:2]
        scratch = torch.empty_strided(*args, **kwargs)
        self._program.launch(self._device, stream, sources, targets, scratch.data_ptr())


class Runner:
    """Runs a capture step by step; values are dropped after their last use."""

    def __init__(self, capture: Capture, steps: list[Step], outputs: list[int]) -> None:
        self._arguments = [(v, i) for v, i in capture.arguments.items()]
        read = _read_by_all(capture)
        self._held = [v for v in capture.held if v in read]
        self._fixed = {i: v.fixed for i, v in enumerate(capture.values) if v.fixed is not None}
        self._outputs = outputs
        self._layouts = [capture.values[v].layout for v in capture.outputs]
        self._rebuild = capture.rebuild
        # What was captured under autocast holds its casts, and is not to be cast again.
        self._around = autocast.disabled if autocast.setting() else contextlib.nullcontext
        kept = set(outputs)
        self._steps: list[tuple[Step, list[int]]] = []
        for step in reversed(steps):
            last = step.reads() - kept
            kept |= last
            self._steps.append((step, list(last)))
        self._steps.reverse()

    def __call__(self, arguments: tuple[Any, ...], tensors: tuple[Tensor, ...]) -> Any:
        """The result of forward() for arguments and tensors laid out as captured."""
        values: dict[int, Any] = dict(self._fixed)
        for value, i in self._arguments:
            values[value] = arguments[i]
        values.update(zip(self._held, tensors, strict=True))
        with self._around():
            for step, last in self._steps:
                step.run(values)
                for value in last:
                    values.pop(value, None)
        made = [
            _lying_as(values[v], layout)
            for v, layout in zip(self._outputs, self._layouts, strict=True)
        ]
        return made[0] if self._rebuild is None else self._rebuild(made)


class _Maker:
    """Makes the steps of a plan."""

    def __init__(
        self,
        plan: Plan,
        by_name: dict[str, int],
        options: Options,
        aligned: bool,
        left: dict[int, str],
        layouts: dict[int, Layout],
    ) -> None:
        self._layouts = layouts
        self._plan = plan
        self._capture = plan.capture
        self._by_name = by_name
        self._options = options
        self._aligned = aligned and cuda.aligned(plan.capture.held.values())
        self._left = left

    def make(self, step: _core.Step) -> tuple[Step, StepReport]:
        """One step, and what became of it."""
        foreign, tag, input_names, output_names, region, reason = step
        if foreign:
            return self._host_step(tag, input_names)
        assert region is not None
        capture = self._capture
        inputs = [self._by_name[name] for name in input_names]
        outputs = [self._by_name[name] for name in output_names]
        nodes = _slice(capture, inputs, outputs)
        host = HostStep(capture, nodes, {})
        names = [n.target._schema.name.split("::")[-1] for n in nodes]
        layouts = [capture.values[v].layout for v in (*inputs, *outputs)]
        if len({layout[3] for layout in layouts}) > 1:
            return host, StepReport(names, None, "its tensors lie on several devices")
        anchor = next((n for n in nodes if n.target is torch.ops.aten.convolution.default), None)
        target, forced = self._target(layouts, anchor)
        program = programs.get(
            region,
            [core_layout(capture.values[v].layout) for v in inputs],
            [core_layout(self._layouts.get(v, capture.values[v].layout)) for v in outputs],
            replace(self._options, always=True) if forced else self._options,
            target,
        )
        if isinstance(program, str):
            library = anchor if program.startswith(_LIBRARY) else None
            return host, StepReport(names, None, program, target.precision, library)
        made = RegionStep(capture, program, inputs, outputs, host, target, self._layouts)
        return made, StepReport(names, program, reason, target.precision)

    def _target(self, layouts: list[Layout], anchor: Node | None) -> tuple[Target, bool]:
        """What to compile for, and whether Segue must run the region whatever is faster."""
        device = layouts[0][3]
        if device < 0:
            return Target(), False
        self._plan.device = device
        alignment = cuda.ALIGNMENT if self._aligned else min(x[2].itemsize for x in layouts)
        of_anchor, forced = self._precision(anchor, device) if anchor else (None, False)
        return Target(device, of_anchor, alignment), forced

    def _precision(self, anchor: Node, device: int) -> tuple[str | None, bool]:
        """The class of a convolution, None where its dtype leaves no choice.

        And whether PyTorch would compute it in another class than the caller has named.
        """
        given = {argument.name: value for argument, value in bind(anchor)}
        layouts = [
            self._capture.values[given[name].index].layout if given[name] is not None else None
            for name in ("input", "weight", "bias")
        ]
        x, weight, bias = layouts
        assert x is not None
        assert weight is not None
        if x[2] != torch.float32:
            return None, False
        self._plan.switches = precision.switches()
        if given["transposed"]:
            found = precision.FP32
        else:
            convolution = precision.Convolution(
                (tuple(x[0]), x[1]),
                (tuple(weight[0]), weight[1]),
                bias is not None,
                tuple(given["stride"]),
                tuple(given["padding"]),
                tuple(given["dilation"]),
                given["groups"],
                self._aligned,
            )
            found = precision.class_of(convolution, device)
        named = self._options.precision
        if named == precision.MATCH:
            return found, False
        return named, found != precision.rounding_of(named)

    def _host_step(self, tag: int, input_names: tuple[str, ...]) -> tuple[Step, StepReport]:
        if tag < 0:  # takes one result of several, which are there already
            return HostStep(self._capture, [], {}), StepReport([], None, "")
        node = self._capture.nodes[tag]
        operands = self._plan.lowered.operands[tag]
        if len(operands) != len(input_names):
            raise NotCapturedError(f"{node.target} has lost an operand")
        # Equal values may have been merged; the partition says which one is there.
        instead = {
            v: self._by_name[name]
            for v, name in zip(operands, input_names, strict=True)
            if name in self._by_name
        }
        reason = self._left.get(tag, "no operator of Segue's table")
        report = StepReport([str(node.target)], None, reason)
        return HostStep(self._capture, [node], instead), report


def _slice(capture: Capture, inputs: list[int], outputs: list[int]) -> list[Node]:
    """Nodes that compute outputs from inputs, in order."""
    wanted = set(outputs) - set(inputs)
    kept = []
    for node in reversed(capture.nodes):
        if wanted.intersection(node.results):
            kept.append(node)
            wanted.update(v for v in node.operands() if v not in inputs)
    return kept[::-1]


def _has_ref(argument: Any) -> bool:
    if isinstance(argument, (list, tuple)):
        return any(_has_ref(x) for x in argument)
    return isinstance(argument, Ref)


def _getter(argument: Any, instead: dict[int, int]) -> Callable[[dict[int, Tensor]], Any]:
    """Finds an argument's value at run time."""
    if isinstance(argument, Ref):
        index = instead.get(argument.index, argument.index)
        return lambda values: values[index]
    if _has_ref(argument):
        inner = [_getter(x, instead) for x in argument]
        return lambda values: [get(values) for get in inner]
    return lambda _: argument
