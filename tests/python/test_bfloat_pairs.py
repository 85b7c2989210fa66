"""Convolutions of bfloat16 that the processor multiplies two products at a time."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import gpu_cases
from gpu_cases import Case, Step, Template
from segue import _core

FLAGS = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
pytestmark = pytest.mark.skipif(
    "avx512_bf16" not in FLAGS, reason="the processor has no products of bfloat16"
)

NEG = (Step("unary", "neg"),)
# Odd and few channels, groups, strides, dilation, padding, one tap, many; 1-D to 3-D; a walk.
TEMPLATES = [
    Template("bf16", "fp32", 33, 17, 2, (3, 3), (1, 1), (1, 1), (1, 1), bias=True, tail=NEG),
    Template("bf16", "fp32", 2, 9, 1, (5,), (2,), (2,), (1,), tail=NEG),
    Template("bf16", "fp32", 24, 40, 2, (1, 1), (1, 1), (0, 0), (1, 1), bias=True, tail=NEG),
    Template("bf16", "fp32", 10, 12, 2, (3, 2), (2, 3), (1, 0), (2, 1), groups=2, tail=NEG),
    Template("bf16", "fp32", 3, 8, 3, (3, 3, 3), (1, 2, 1), (1, 1, 1), (1, 1, 1), tail=NEG),
    Template(
        "bf16", "fp32", 64, 24, 2, (3, 3), (1, 1), (0, 1), (1, 1), bias=True,
        tail=(Step("reduce", "amin", axis=2), Step("softmax", "softmax", axis=1)),
    ),
    Template("bf16", "fp32", 200, 16, 2, (3, 3), (1, 1), (1, 1), (1, 1), tail=NEG),
]  # fmt: skip
IMAGES = {1: (41,), 2: (13, 35), 3: (6, 9, 20)}


def compiled(case: Case, isa: str | None = None) -> _core.Program:
    graph = _core.Graph(case.text)
    return _core.Program(graph, case.inputs, case.outputs, always=True, isa=isa)


def run(case: Case, inputs: list[Tensor]) -> Tensor:
    program = compiled(case)
    assert "in pairs" in program.explain()
    dtype, sizes, strides = program.outputs[0]
    memory = torch.full(
        (gpu_cases.span((dtype, sizes, strides), 0),), math.nan, dtype=torch.bfloat16
    )
    program.run([x.data_ptr() for x in inputs], [memory.data_ptr()])
    return memory.as_strided(sizes, strides).double()


def drawn(case: Case) -> list[Tensor]:
    return gpu_cases.values(case, torch.device("cpu"), torch.Generator().manual_seed(1))


def cases(template: Template) -> list[Case]:
    """Contiguous, and channels last."""
    plain = gpu_cases.make_case(template, 3, IMAGES[template.rank])
    last = gpu_cases.make_case(template, 3, IMAGES[template.rank])
    last.inputs[:2] = [
        (dtype, sizes, gpu_cases.channels_last(sizes)) for dtype, sizes, _ in last.inputs[:2]
    ]
    return [plain, last]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: f"{t.channels}x{t.kernel}")
def test_rounds_once(template: Template) -> None:
    """Off by half a unit of bfloat16, and by what the tail makes of sums of float32."""
    for case in cases(template):
        inputs = drawn(case)
        actual, wanted = run(case, inputs), gpu_cases.truth(case, inputs)[0]
        allowed = wanted.abs() * 2.0**-8 + wanted.abs().max() * 2.0**-18
        assert bool(((actual - wanted).abs() <= allowed).all())


def test_errs_no_more_than_pytorch() -> None:
    for template in TEMPLATES[:5]:
        case = cases(template)[0]
        inputs = drawn(case)
        wanted = gpu_cases.truth(case, inputs)[0]
        bias = inputs[2] if template.bias else None
        eager = -gpu_cases.convolved(template, inputs[0], inputs[1], bias)
        assert (run(case, inputs) - wanted).norm() <= (eager.double() - wanted).norm() * 1.1


def test_nan_and_infinity() -> None:
    """They go where they go in float64, whichever half of a pair they are in."""
    case = cases(TEMPLATES[0])[0]
    x, weight, bias = drawn(case)
    x[0, 0, 3, 4], x[0, 1, 7, 15], x[1, 32, 5, 5] = math.nan, math.inf, -math.inf
    x[1, 7, 9, 30], x[1, 6, 10, 30] = math.inf, -math.inf
    weight[3, 5, 1, 1], weight[4, 32, 0, 2], weight[5, 4, 2, 2] = math.inf, -math.inf, math.nan
    actual, wanted = run(case, [x, weight, bias]), gpu_cases.truth(case, [x, weight, bias])[0]
    assert torch.equal(actual.isnan(), wanted.isnan())
    infinite = wanted.isinf()
    assert torch.equal(actual.isinf(), infinite)
    assert torch.equal(actual[infinite], wanted[infinite])


@pytest.mark.parametrize("scale", [2.0**100, 2.0**-60, 2.0**-110, 2.0**-125])
def test_what_is_too_small_counts_as_zero(scale: float) -> None:
    """At most the bound of docs/numerics.md is lost to that."""
    case = cases(TEMPLATES[2])[0]
    x, weight, bias = drawn(case)
    inputs = [x * scale, weight, bias * 0]
    actual, wanted = run(case, inputs), gpu_cases.truth(case, inputs)[0]
    tiny = 2.0**-126
    lost = gpu_cases.convolved(
        TEMPLATES[2],
        (inputs[0].double().abs() < tiny).double(), weight.double().abs(), None,
    ) + weight[0].numel()  # fmt: skip
    allowed = wanted.abs() * 2.0**-8 + wanted.abs().max() * 2.0**-18 + tiny * lost
    assert bool(((actual - wanted).abs() <= allowed).all())


def test_is_for_those_who_have_it() -> None:
    """Other instruction sets, other types and single channels go on in float32."""
    template = TEMPLATES[0]
    assert "in pairs" not in compiled(cases(template)[0], isa="avx2").explain()
    depthwise = Template("bf16", "fp32", 8, 8, 2, (3, 3), (1, 1), (1, 1), (1, 1), 8, tail=NEG)
    assert "in pairs" not in compiled(cases(depthwise)[0]).explain()
    half = Template("f16", "fp32", 33, 17, 2, (3, 3), (1, 1), (1, 1), (1, 1), tail=NEG)
    assert "in pairs" not in compiled(cases(half)[0]).explain()
