"""Random graphs against the float64 interpreter, which knows of no tiles, threads or layouts."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from segue import _core

ROWS = {row["name"]: row for row in json.loads(_core.operators_json())}
# Results in a range where errors stay comparable: no powers of powers.
UNARY = [
    name
    for name, row in ROWS.items()
    if row["kind"] == "pointwise" and row["arity"] == 1 and row["result"] == "same"
    and row["domain"] == "real" and name not in ("cast", "reciprocal", "round", "floor", "ceil",
                                                 "trunc", "sign", "hardshrink", "threshold")
]  # fmt: skip
BINARY = ["add", "sub", "mul", "minimum", "maximum"]
REDUCTIONS = ["sum", "mean", "amin", "amax", "logsumexp"]


@dataclass
class Draft:
    """A graph being drawn, in text, with the shape of every value."""

    lines: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def add(self, name: str, text: str, shape: tuple[int, ...]) -> str:
        self.lines.append(f"  %{name} = {text}")
        self.shapes[name] = shape
        return name

    def input(self, shape: tuple[int, ...]) -> str:
        name = f"i{len(self.inputs)}"
        self.inputs[name] = shape
        sizes = ", ".join(map(str, shape))
        return self.add(name, f"input : f32[{sizes}]", shape)

    def text(self, outputs: list[str]) -> str:
        inputs = [line for line in self.lines if " = input" in line]
        others = [line for line in self.lines if " = input" not in line]
        names = ", ".join(f"%{x}" for x in outputs)
        return "\n".join(["graph random {", *inputs, *others, f"  output {names}", "}"])


def start(draw: Any, draft: Draft) -> str:
    """A convolution, or an input alone."""
    if not draw(st.booleans()):
        return draft.input(tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))))
    groups = draw(st.sampled_from([1, 1, 2]))
    channels = groups * draw(st.integers(1, 3))
    features = groups * draw(st.sampled_from([1, 3, 8, 17]))
    rank = draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    stride = [draw(st.integers(1, 2)) for _ in range(rank)]
    padding = [draw(st.integers(0, 1)) for _ in range(rank)]
    size = [draw(st.integers(k, 11)) for k in kernel]
    x = draft.input((draw(st.integers(1, 3)), channels, *size))
    w = draft.input((features, channels // groups, *kernel))
    b = draft.input((features,)) if draw(st.booleans()) else None
    out = [(s + 2 * p - k) // t + 1 for s, p, k, t in zip(size, padding, kernel, stride)]  # noqa: B905
    text = f"convolution %{x}, %{w}" + (f", %{b}" if b else "")
    text += f" {{stride={stride}, padding={padding}, groups={groups}}}"
    return draft.add("c", text, (draft.shapes[x][0], features, *out))


def step(draw: Any, draft: Draft, value: str, number: int) -> str:
    """One more operator on a value."""
    shape, name = draft.shapes[value], f"v{number}"
    kind = draw(st.sampled_from(["unary", "unary", "scalar", "binary", "reduce", "softmax", "own"]))
    if kind == "unary" or not shape:
        return draft.add(name, f"{draw(st.sampled_from(UNARY))} %{value}", shape)
    if kind == "scalar":
        number_text = draw(st.sampled_from(["2.0", "-0.5", "0.125", "1.0"]))
        return draft.add(name, f"{draw(st.sampled_from(BINARY))} %{value}, {number_text}", shape)
    if kind == "binary":
        other = draft.input(tuple(s if draw(st.booleans()) else 1 for s in shape))
        return draft.add(name, f"{draw(st.sampled_from(BINARY))} %{value}, %{other}", shape)
    if kind == "own":
        others = [n for n, s in draft.shapes.items() if s == shape]
        other = draw(st.sampled_from(others))
        return draft.add(name, f"{draw(st.sampled_from(BINARY))} %{value}, %{other}", shape)
    dim = draw(st.integers(0, len(shape) - 1))
    if kind == "softmax":
        return draft.add(name, f"softmax %{value} {{dim={dim}}}", shape)
    keep = draw(st.booleans())
    reduced = tuple(1 if i == dim else s for i, s in enumerate(shape) if keep or i != dim)
    operator = draw(st.sampled_from(REDUCTIONS))
    text = f"{operator} %{value} {{dim=[{dim}], keepdim={str(keep).lower()}}}"
    return draft.add(name, text, reduced)


@st.composite
def graphs(draw: Any) -> tuple[str, list[tuple[int, ...]]]:
    draft = Draft()
    value = start(draw, draft)
    for number in range(draw(st.integers(1, 7))):
        value = step(draw, draft, value, number)
    outputs = [value]
    made = [n for n in draft.shapes if n not in draft.inputs and n != value]
    if made and draw(st.booleans()):
        outputs.append(draw(st.sampled_from(made)))
    return draft.text(outputs), list(draft.inputs.values())


def layout(x: Tensor) -> _core.Layout:
    names = {torch.float32: "f32", torch.float64: "f64"}
    return names[x.dtype], tuple(x.shape), x.stride()


def reference(graph: _core.Graph, inputs: list[Tensor]) -> list[Tensor]:
    layouts = [layout(x) for x in inputs]
    doubles = [x.double().contiguous() for x in inputs]
    results = [torch.empty(shape, dtype=torch.float64) for _, shape, _ in graph.infer(layouts)]
    graph.reference(layouts, [x.data_ptr() for x in doubles], [x.data_ptr() for x in results])
    return results


def run_by_steps(graph: _core.Graph, inputs: list[Tensor], isa: str | None) -> list[Tensor]:
    """Every region compiled and run, as the drop-in does it."""
    steps, input_names, output_names = graph.partition()
    values = dict(zip(input_names, inputs, strict=True))
    for foreign, _, reads, writes, region, _ in steps:
        assert not foreign
        assert region is not None
        given = [values[name] for name in reads]
        program = _core.Program(region, [layout(x) for x in given], isa=isa, always=True)
        made = [torch.full((math.prod(shape) + 32,), torch.nan) for _, shape, _ in program.outputs]
        views = [
            x[16:-16].view(shape) for x, (_, shape, _) in zip(made, program.outputs, strict=True)
        ]
        program.run([x.data_ptr() for x in given], [x.data_ptr() for x in views], 2)
        for x in made:
            assert x[:16].isnan().all(), "written before the result"
            assert x[-16:].isnan().all(), "written behind the result"
        values.update(zip(writes, views, strict=True))
    return [values[name] for name in output_names]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(graphs(), st.sampled_from([None, "generic", "avx2"]), st.integers(0, 2**16))
def test_random_graphs(
    drawn: tuple[str, list[tuple[int, ...]]], isa: str | None, seed: int
) -> None:
    text, shapes = drawn
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    graph = _core.Graph(text)
    expected = reference(graph, inputs)
    assume(all(x.abs().max() < 1e6 for x in expected if x.numel()))
    for actual, truth in zip(run_by_steps(graph, inputs, isa), expected, strict=True):
        assert torch.equal(actual.isnan(), truth.isnan()), text
        finite = truth.isfinite()
        scale = max(1.0, float(truth[finite].abs().max())) if finite.any() else 1.0
        error = (actual.double() - truth)[finite].abs().max() if finite.any() else 0.0
        assert error <= 2e-5 * scale, f"error {error}\n{text}"
