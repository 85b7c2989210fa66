"""From a capture to something that runs: programs for its regions, PyTorch for the rest."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from . import _core, cache
from .capture import Capture
from .lower import DTYPES, Lowered, lower
from .trace import Layout, Node, NotCapturedError, Ref, layout_of

CoreLayout = tuple[str, tuple[int, ...], tuple[int, ...]]

PROGRAMS_MAX = 256


@dataclass(frozen=True)
class Options:
    """What a caller may choose."""

    always: bool = False  # run regions even where PyTorch's operators are expected to be faster
    isa: str | None = None
    tune: bool = False  # measure the candidate plans, and remember the best


@dataclass
class StepReport:
    """What became of one step, for `explain`."""

    operators: list[str]
    program: _core.Program | None
    reason: str  # why it is left to PyTorch, or why the region ends where it ends


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

    @property
    def runs(self) -> bool:
        """Whether any of Segue's programs runs."""
        return self.program is not None or self.runner is not None


class _Programs:
    """Compiled programs by everything that goes into one; the least recently used goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Any, _core.Program | str] = OrderedDict()
        self._lock = threading.Lock()
        self._wisdom: str | None = None  # as it was when last loaded or saved

    def _keep_wisdom(self) -> None:
        """Writes plans that compiling found by measuring."""
        wisdom = _core.wisdom_export()
        if wisdom != self._wisdom:
            self._wisdom = wisdom
            cache.save_wisdom()

    def get(
        self,
        graph: _core.Graph,
        inputs: Iterable[CoreLayout],
        outputs: Iterable[CoreLayout],
        options: Options,
    ) -> _core.Program | str:
        """The program, or the sentence that says why it is not applicable."""
        inputs, outputs = tuple(inputs), tuple(outputs)
        threads = torch.get_num_threads()
        key = (graph.text(), inputs, outputs, threads, options)
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                if self._wisdom is None:
                    cache.load_wisdom()
                    self._wisdom = _core.wisdom_export()
                try:
                    found = _core.Program(
                        graph,
                        inputs,
                        outputs,
                        threads,
                        options.isa,
                        options.always,
                        options.tune,
                    )
                except _core.NotApplicable as reason:
                    found = str(reason)
                self._kept[key] = found
                self._keep_wisdom()
                if len(self._kept) > PROGRAMS_MAX:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return found


programs = _Programs()


def core_layout(layout: Layout) -> CoreLayout:
    """A tensor's layout as the library takes it; SegueError for other dtypes."""
    shape, stride, dtype = layout
    if dtype not in DTYPES:
        raise _core.SegueError(f"a tensor of {dtype} is not taken; float and bool tensors are")
    return DTYPES[dtype], tuple(shape), stride


def make_plan(capture: Capture, name: str, options: Options) -> Plan:
    """Lowers, partitions and compiles. NotCapturedError when something does not fit."""
    lowered = lower(capture, name)
    graph = _core.Graph(lowered.text)
    _check_types(graph, capture, lowered)
    steps, _, output_names = graph.partition()
    by_name = {name: value for value, name in lowered.names.items()}
    plan = Plan(capture, lowered)
    try:
        whole = len(steps) == 1 and not steps[0][0] and steps[0][3] == output_names
        made = [_make_step(plan, step, by_name, options) for step in steps]
        outputs = [by_name[name] for name in output_names]
    except KeyError as error:
        raise NotCapturedError(f"the partition names an unknown value {error}") from None
    plan.steps = [report for _, report in made]
    if not any(report.program for report in plan.steps):
        return plan
    if whole and steps[0][4] is not None:
        _bind_whole(plan, [by_name[name] for name in steps[0][2]], outputs)
        return plan
    read = _read_by_all(capture)
    for value, tensor in capture.held.items():
        if value in read:
            _hold(plan, value, tensor)
    runner = Runner(capture, [step for step, _ in made], outputs)
    plan.runner = runner
    return plan


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


def _bind_whole(plan: Plan, inputs: list[int], outputs: list[int]) -> None:
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
    plan.outputs = [_allocation(capture.values[v].layout) for v in outputs]
    plan.program = plan.steps[0].program


def _allocation(layout: Layout) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments for torch.empty_strided."""
    shape, stride, dtype = layout
    return (tuple(shape), stride), {"dtype": dtype, "device": torch.device("cpu")}


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
    shape, stride, dtype = layout
    return torch.empty_strided(shape, stride, dtype=dtype).copy_(tensor)


class RegionStep:
    """A region that Segue runs; PyTorch does should an input lie otherwise than expected."""

    def __init__(
        self,
        capture: Capture,
        program: _core.Program,
        inputs: list[int],
        outputs: list[int],
        otherwise: HostStep,
    ) -> None:
        self._program = program
        self._inputs = [(v, capture.values[v].layout) for v in inputs]
        self._outputs = [(v, *_allocation(capture.values[v].layout)) for v in outputs]
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
        made = [torch.empty_strided(*args, **kwargs) for _, args, kwargs in self._outputs]
        self._program.run(
            [x.data_ptr() for x in inputs], [x.data_ptr() for x in made], torch.get_num_threads()
        )
        for (value, _, _), tensor in zip(self._outputs, made, strict=True):
            values[value] = tensor


class Runner:
    """Runs a capture step by step; values are dropped after their last use."""

    def __init__(self, capture: Capture, steps: list[Step], outputs: list[int]) -> None:
        self._arguments = [(v, i) for v, i in capture.arguments.items()]
        read = _read_by_all(capture)
        self._held = [v for v in capture.held if v in read]
        self._fixed = {i: v.fixed for i, v in enumerate(capture.values) if v.fixed is not None}
        self._outputs = outputs
        self._rebuild = capture.rebuild
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
        for step, last in self._steps:
            step.run(values)
            for value in last:
                values.pop(value, None)
        made = [values[v] for v in self._outputs]
        return made[0] if self._rebuild is None else self._rebuild(made)


def _make_step(
    plan: Plan, step: _core.Step, by_name: dict[str, int], options: Options
) -> tuple[Step, StepReport]:
    foreign, tag, input_names, output_names, region, reason = step
    capture = plan.capture
    if foreign:
        return _host_step(plan, tag, input_names, by_name)
    assert region is not None
    inputs = [by_name[name] for name in input_names]
    outputs = [by_name[name] for name in output_names]
    nodes = _slice(capture, inputs, outputs)
    host = HostStep(capture, nodes, {})
    names = [n.target._schema.name.split("::")[-1] for n in nodes]
    program = programs.get(
        region,
        [core_layout(capture.values[v].layout) for v in inputs],
        [core_layout(capture.values[v].layout) for v in outputs],
        options,
    )
    if isinstance(program, str):
        return host, StepReport(names, None, program)
    made = RegionStep(capture, program, inputs, outputs, host)
    return made, StepReport(names, program, reason)


def _host_step(
    plan: Plan, tag: int, input_names: tuple[str, ...], by_name: dict[str, int]
) -> tuple[Step, StepReport]:
    if tag < 0:  # takes one result of several, which are there already
        return HostStep(plan.capture, [], {}), StepReport([], None, "")
    node = plan.capture.nodes[tag]
    operands = plan.lowered.operands[tag]
    if len(operands) != len(input_names):
        raise NotCapturedError(f"{node.target} has lost an operand")
    # Equal values may have been merged; the partition says which one is there.
    instead = {
        v: by_name[name] for v, name in zip(operands, input_names, strict=True) if name in by_name
    }
    report = StepReport([str(node.target)], None, "no operator of Segue's table")
    return HostStep(plan.capture, [node], instead), report


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
