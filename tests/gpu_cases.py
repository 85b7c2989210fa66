"""Random regions for GPUs: a convolution or none, and a tail, at sizes that share their sources.

A template fixes what a generated source has as constants (channels, kernel, tail, dtype); a case is
a template at one batch, image and layout of the inputs. Both are drawn from seeded generators, so
that a case can be named by family, template and variant. Nothing here needs a GPU.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segue import _core
from segue.lower import overload_of, rules

FAMILIES = (
    "wgmma_ring", "wgmma_gathered", "wgmma_packed", "wgmma_streamed",
    "mma", "implicit_gemm", "direct", "stream",
)  # fmt: skip
DTYPES = {
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
    "f64": torch.float64,
}
# Steps or powers of powers make errors that mean nothing; so do poles.
_STEEP = {"identity", "cast", "reciprocal", "round", "floor", "ceil", "trunc", "sign", "hardshrink",
          "threshold", "square", "exp", "exp2", "expm1"}  # fmt: skip
UNARY = [
    row["name"]
    for row in json.loads(_core.operators_json())
    if row["kind"] == "pointwise" and row["arity"] == 1 and row["result"] == "same"
    and row["domain"] in ("real", "wide") and row["name"] not in _STEEP
]  # fmt: skip
BINARY = ("add", "sub", "mul", "minimum", "maximum")
REDUCTIONS = ("amin", "amax", "mean", "sum", "logsumexp")
FLOPS_MAX = 4e8


def marked_families() -> list[Any]:
    """The families as parameters of tests, with the architecture that each needs."""
    needs = {"mma": 80, "implicit_gemm": 80, "direct": 80, "stream": 80}
    return [pytest.param(x, marks=pytest.mark.sm(needs.get(x, 90)), id=x) for x in FAMILIES]


def unary(name: str, x: Tensor) -> Tensor:
    """A pointwise operator of one operand, as ATen runs it."""
    if name == "clamp":
        return x.clamp(-0.75, 0.5)
    if name in ("hardsigmoid", "hardswish"):  # on GPUs PyTorch's have 1/6 in float32
        gate = (x + 3).clamp(0, 6) / 6
        return gate if name == "hardsigmoid" else x * gate
    rule = next(r for found in rules().values() for r in found if r.row["name"] == name)
    fixed = {k: v for k, v in rule.requirements.items() if v != "*"}
    made: Tensor = overload_of(rule)(x, **fixed)
    return made


@dataclass(frozen=True)
class Step:
    """One operator of a tail."""

    kind: str  # "unary", "scalar", "operand", "reduce" or "softmax"
    name: str
    number: float = 0.0  # of "scalar"
    domain: str = ""  # of "operand": "scalar", "channel", "pixel" or "full"
    axis: int = 1  # of "reduce" and "softmax"


@dataclass(frozen=True)
class Template:
    """What the constants of a source follow from."""

    dtype: str
    precision: str
    channels: int  # of the input of the tail, where there is no convolution
    features: int
    rank: int  # of the image
    kernel: tuple[int, ...] = ()  # empty: no convolution
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    bias: bool = False
    tail: tuple[Step, ...] = ()
    also: int = -1  # a step whose value is a second result


@dataclass
class Case:
    """A template at concrete sizes. Tensors are (dtype, sizes, strides) and an offset."""

    template: Template
    text: str
    inputs: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
    offset: int  # elements before the first of every input
    outputs: list[tuple[str, tuple[int, ...], tuple[int, ...]]] | None  # None: contiguous

    @property
    def alignment(self) -> int:
        """Bytes that every first element is aligned to, for the library."""
        return 16 if self.offset == 0 else DTYPES[self.template.dtype].itemsize

    def compile(self, strategy: str | None, gpu: str = "0") -> _core.Program:
        """The program; NotApplicable when the strategy does not take it."""
        return _core.Program(
            _core.Graph(self.text),
            self.inputs,
            self.outputs,
            always=True,
            gpu=gpu,
            precision=self.template.precision,
            alignment=self.alignment,
            strategy=strategy,
        )


# ---- drawing -----------------------------------------------------------------------------------


def draw_template(family: str, number: int) -> Template:
    """A template that the family may well take."""
    draw = random.Random(f"{family} {number}")
    dtype = draw.choice({
        "direct": ["f32", "f64", "f16", "bf16"],
        "stream": ["f32", "f32", "f16", "bf16", "f64"],
        "mma": ["f32", "f32", "f16", "bf16", "f64"],
        "wgmma_ring": ["f32", "f32", "f16", "bf16"],
        "implicit_gemm": ["f32", "f32", "f16", "bf16"],
        "wgmma_packed": ["f32", "f32", "f16", "bf16"],
        "wgmma_streamed": ["f32", "f32", "f16", "bf16"],
    }.get(family, ["f32"]))  # fmt: skip
    precision = draw.choice(["tf32", "tf32_even", "fp32"])
    rank = draw.choice([1, 2, 2, 2, 3])
    features = draw.choice([1, 3, 8, 16, 17, 24, 32, 48, 64, 64, 96, 128, 200, 256])
    if family == "wgmma_gathered":
        features = draw.choice([1, 3, 8, 16, 17, 24, 24, 32, 48, 64])
    if family == "stream":
        features = draw.choice([1, 2, 5, 24, 64, 100, 128, 512, 1000])
        made = Template(dtype, precision, features, features, rank)
    else:
        made = _draw_convolution(family, draw, dtype, precision, rank, features)
    tail = _draw_tail(draw, made)
    also = draw.randrange(len(tail)) if len(tail) > 1 and draw.random() < 0.15 else -1
    also = -1 if also == len(tail) - 1 else also
    return Template(**{**made.__dict__, "tail": tail, "also": also})


def _draw_convolution(
    family: str, draw: random.Random, dtype: str, precision: str, rank: int, features: int
) -> Template:
    groups = 1
    channels = draw.choice({
        "wgmma_ring": [8, 16, 16, 24, 32, 40, 64, 64],
        "wgmma_gathered": [1, 2, 3, 3, 3, 4, 6],
        "wgmma_packed": [1, 2, 3, 3, 4, 5, 8],
        "wgmma_streamed": [12, 33, 64, 96, 128, 200, 256, 1000],
    }.get(family, [1, 2, 3, 4, 7, 8, 16, 30, 64, 100, 256]))  # fmt: skip
    plain = family in ("wgmma_ring", "wgmma_gathered") or draw.random() < 0.5
    if draw.random() < 0.2 and channels % 2 == 0:
        groups = draw.choice([2, channels] if family in ("direct", "mma") else [2])
        features = groups * max(1, features // groups)
    if family == "direct" and draw.random() < 0.1:
        channels, groups, features = draw.choice([1, 1000]), 1, draw.choice([1, 1000])

    def each(values: list[int]) -> tuple[int, ...]:
        return tuple(draw.choice(values) for _ in range(rank))

    kernel = draw.choice([(3,) * rank, (3,) * rank, each([1, 2, 3, 4, 5]), (1,) * rank])
    if draw.random() < 0.08 and rank == 2:
        kernel = (7, 7)
    return Template(
        dtype,
        precision,
        channels,
        features,
        rank,
        kernel,
        (1,) * rank if plain or draw.random() < 0.5 else each([1, 2, 3]),
        (0,) * rank if draw.random() < 0.5 else each([0, 1, 2]),
        (1,) * rank if plain or draw.random() < 0.7 else each([1, 2]),
        groups,
        draw.random() < 0.7,
    )


def _draw_tail(draw: random.Random, template: Template) -> tuple[Step, ...]:
    """Pointwise operators around at most one walk, one channel reduction or softmax each."""
    steps: list[Step] = []
    gone: set[int] = set()  # axes reduced to one

    def pointwise(count: int) -> None:
        for _ in range(count):
            kind = draw.choice(["unary", "unary", "scalar", "operand"])
            if kind == "unary":
                steps.append(Step("unary", draw.choice(UNARY)))
            elif kind == "scalar":
                number = draw.choice([2.0, -0.5, 0.125, 1.0, -1.5])
                steps.append(Step("scalar", draw.choice(BINARY), number))
            else:
                domain = draw.choice(["scalar", "channel", "pixel", "full"])
                steps.append(Step("operand", draw.choice(BINARY), domain=domain))

    pointwise(draw.randint(1 if not template.kernel else 0, 2))
    ending = draw.random()
    if template.rank > 1 and ending < 0.25:  # a walk along depth or rows
        axis = 2
        name = draw.choice(["amin", "amax", "mean", "sum"])
        steps.append(Step("reduce", name, axis=axis))
        gone.add(axis)
        pointwise(draw.randint(0, 1))
    if ending < 0.15 or 0.3 < ending < 0.6:
        steps.append(Step("reduce", draw.choice(REDUCTIONS), axis=1))
        gone.add(1)
        pointwise(draw.randint(0, 2))
    elif 0.6 < ending < 0.75 or 0.15 < ending < 0.25:
        steps.append(Step("softmax", draw.choice(["softmax", "log_softmax"]), axis=1))
        pointwise(draw.randint(0, 1))
    if not steps:
        pointwise(1)
    return tuple(steps)


def draw_case(family: str, number: int, variant: int) -> Case:
    """One variant of a template: variants share channels, kernel and tail."""
    template = draw_template(family, number)
    draw = random.Random(f"{family} {number} {variant}")
    batch = draw.choice([0, 1, 1, 2, 2, 3, 5])
    if not template.kernel:
        image = tuple(draw.choice([1, 2, 5, 16, 31, 64]) for _ in range(template.rank))
        return make_case(template, batch, image, draw)
    lists = zip(template.dilation, template.kernel, template.padding, strict=True)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in lists]  # for one pixel
    image = tuple(n + draw.choice([0, 1, 2, 7, 13, 30]) for n in least)
    while flops(template, max(batch, 1), image) > FLOPS_MAX and list(image) != least:
        image = tuple(max(n // 2, m) for n, m in zip(image, least, strict=True))
    return make_case(template, batch, image, draw)


def out_image(template: Template, image: tuple[int, ...]) -> tuple[int, ...]:
    """The image after the convolution."""
    if not template.kernel:
        return image
    t = template
    lists = zip(image, t.padding, t.dilation, t.kernel, t.stride, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in lists)


def flops(template: Template, batch: int, image: tuple[int, ...]) -> float:
    """Of the convolution."""
    taps = math.prod(template.kernel) if template.kernel else 0
    pixels = batch * math.prod(out_image(template, image))
    return 2.0 * pixels * taps * template.features * template.channels / template.groups


# ---- text and layouts --------------------------------------------------------------------------


def make_case(
    template: Template, batch: int, image: tuple[int, ...], draw: random.Random | None = None
) -> Case:
    """The case; without a generator of contiguous tensors."""
    t = template
    shapes: list[tuple[int, ...]] = [(batch, t.channels, *image)]
    lines: list[str] = []
    shape = [batch, t.features, *out_image(t, image)]
    value = "x"
    names = ["x"]
    if t.kernel:
        shapes.append((t.features, t.channels // t.groups, *t.kernel))
        names.append("w")
        if t.bias:
            shapes.append((t.features,))
            names.append("b")
        settings = (
            f"stride={list(t.stride)}, padding={list(t.padding)}, dilation={list(t.dilation)}, "
            f"groups={t.groups}"
        )
        operands = ", ".join(f"%{n}" for n in names)
        lines.append(f"%c = convolution {operands} {{{settings}}}")
        value = "c"
    for number, step in enumerate(t.tail):
        made = f"v{number}"
        if step.kind == "unary":
            settings = " {min=-0.75, max=0.5}" if step.name == "clamp" else ""
            lines.append(f"%{made} = {step.name} %{value}{settings}")
        elif step.kind == "scalar":
            lines.append(f"%{made} = {step.name} %{value}, {step.number}")
        elif step.kind == "operand":
            names.append(f"o{number}")
            shapes.append(_operand_shape(step.domain, shape))
            lines.append(f"%{made} = {step.name} %{value}, %{names[-1]}")
        elif step.kind == "reduce":
            lines.append(f"%{made} = {step.name} %{value} {{dim=[{step.axis}], keepdim=true}}")
            shape[step.axis] = 1
        else:
            lines.append(f"%{made} = {step.name} %{value} {{dim={step.axis}}}")
        value = made
    outputs = [value] + ([f"v{t.also}"] if t.also >= 0 else [])
    heads = [
        f"%{n} = input : {t.dtype}[{', '.join(map(str, s))}]"
        for n, s in zip(names, shapes, strict=True)
    ]
    results = ", ".join(f"%{n}" for n in outputs)
    body = [f"  {x}" for x in (*heads, *lines, f"output {results}")]
    text = "\n".join(["graph case {", *body, "}"])
    case = Case(t, text, [(t.dtype, s, contiguous(s)) for s in shapes], 0, None)
    if draw is not None:
        _draw_layouts(case, draw, shape)
    return case


def _operand_shape(domain: str, shape: list[int]) -> tuple[int, ...]:
    if domain == "scalar":
        return ()
    if domain == "channel":
        return (shape[1], *[1] * (len(shape) - 2))
    if domain == "pixel":
        return (shape[0], 1, *shape[2:])
    return tuple(shape)


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a contiguous tensor."""
    strides = [1]
    for n in reversed(shape[1:]):
        strides.append(strides[-1] * max(n, 1))
    return tuple(reversed(strides))[: len(shape)] if shape else ()


def channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a tensor whose channels lie next to one another."""
    order = (0, *range(2, len(shape)), 1)
    inner = contiguous(tuple(shape[i] for i in order))
    found = dict(zip(order, inner, strict=True))
    return tuple(found[i] for i in range(len(shape)))


def _draw_layouts(case: Case, draw: random.Random, out_shape: list[int]) -> None:
    dtype, shape, _ = case.inputs[0]
    style = draw.choice(["contiguous"] * 3 + ["last", "sliced", "expanded", "offset", "wide"])
    strides = contiguous(shape)
    if style == "last":
        strides = channels_last(shape)
    elif style == "sliced":  # out of an image with a margin, every second row
        strides = contiguous((*shape[:-1], shape[-1] + 3))
        if len(shape) > 3:
            strides = tuple(s * 2 if i == len(shape) - 2 else s for i, s in enumerate(strides))
            strides = tuple(s * 2 if i < len(shape) - 2 else s for i, s in enumerate(strides))
    elif style == "expanded":
        strides = (0, *strides[1:])
    elif style == "offset":
        case.offset = 1
    elif style == "wide":  # every second element
        strides = tuple(2 * s for s in strides)
    case.inputs[0] = (dtype, shape, strides)
    if style == "last" and case.template.kernel and draw.random() < 0.5:
        weight = case.inputs[1]
        case.inputs[1] = (dtype, weight[1], channels_last(weight[1]))
        if len(out_shape) > 2 and case.template.also < 0:
            out = tuple(out_shape)
            case.outputs = [(dtype, out, channels_last(out))]


# ---- values and the truth ----------------------------------------------------------------------


def span(layout: tuple[str, tuple[int, ...], tuple[int, ...]], offset: int) -> int:
    """Elements of the memory of a tensor."""
    _, sizes, strides = layout
    if 0 in sizes:
        return offset + 1
    return offset + 1 + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))


def values(case: Case, device: torch.device, generator: torch.Generator) -> list[Tensor]:
    """Inputs: results of the convolution have a variance near one. What is between is NaN."""
    made = []
    for index, (dtype, sizes, strides) in enumerate(case.inputs):
        memory = torch.full(
            (span((dtype, sizes, strides), case.offset),),
            math.nan,
            dtype=DTYPES[dtype],
            device=device,
        )
        view = memory.as_strided(sizes, strides, case.offset)
        own = [min(n, 1) if s == 0 else n for n, s in zip(sizes, strides, strict=True)]
        wide = torch.float64 if dtype == "f64" else torch.float32
        drawn = torch.randn(own, generator=generator, device=device, dtype=wide)
        if index == 1 and case.template.kernel:
            drawn /= math.sqrt(max(1, math.prod(sizes[1:])))
        target = memory.as_strided(own, strides, case.offset)
        target.copy_(drawn)
        made.append(view)
    return made


def rounded(x: Tensor, precision: str) -> Tensor:
    """float32 operands of an anchor as a class takes them."""
    if precision == "fp32" or x.dtype != torch.float32:
        return x
    bits = x.contiguous().view(torch.int32)
    carry = 0x0FFF + ((bits >> 13) & 1) if precision == "tf32_even" else 0x1000
    kept = ((bits + carry) & ~0x1FFF).view(torch.float32)
    return torch.where(x.isfinite(), kept, x)


def convolved(template: Template, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution alone."""
    t = template
    function = (F.conv1d, F.conv2d, F.conv3d)[t.rank - 1]
    return function(x, weight, bias, t.stride, t.padding, t.dilation, t.groups)


# Operands are carried in halves.
CARRIED = ("wgmma_ring", "wgmma_gathered", "wgmma_packed", "wgmma_streamed")


def excess(case: Case, strategy: str, actual: Tensor, x: Tensor, weight: Tensor) -> float:
    """The largest error, as a multiple of docs/numerics.md's bound; where results are finite.

    The case: a convolution without bias, negated.
    """
    a, b = (rounded(t, case.template.precision).double() for t in (x, weight))
    wanted = -convolved(case.template, a, b, None)
    a, b = (t.nan_to_num(0.0, 0.0, 0.0).abs() for t in (a, b))
    summed = convolved(case.template, a, b, None)
    allowed = 1e-5 * summed + 1e-40
    if strategy in CARRIED:  # a segment of the work lies in one image
        largest = a.amax((1, 2, 3), keepdim=True).expand_as(a)
        allowed += 2.0**-18 * convolved(case.template, largest, b, None)
    where = wanted.isfinite() & (summed < 1e38)
    return ((actual - wanted).abs() / allowed)[where].nan_to_num(math.inf).max().item()


def truth(case: Case, inputs: list[Tensor]) -> list[Tensor]:
    """Results in float64, of operands rounded as the class has it."""
    t = case.template
    left = list(inputs)
    x = left.pop(0)
    if t.kernel:
        weight = left.pop(0)
        bias = left.pop(0).double() if t.bias else None
        x = convolved(
            t, rounded(x, t.precision).double(), rounded(weight, t.precision).double(), bias
        )
    x = x.double()
    results = []
    for number, step in enumerate(t.tail):
        if step.kind == "unary":
            x = unary(step.name, x)
        elif step.kind == "scalar":
            number_of = torch.tensor(step.number, dtype=x.dtype, device=x.device)
            x = getattr(torch, step.name)(x, number_of)
        elif step.kind == "operand":
            x = getattr(torch, step.name)(x, left.pop(0).double())
        elif step.kind == "reduce":
            x = getattr(torch, step.name)(x, dim=step.axis, keepdim=True)
        else:
            x = getattr(torch, step.name)(x, dim=step.axis)
        if number == t.also:
            results.append(x)
    return [x, *results]


def tolerance(case: Case) -> float:
    """Of an element, relative to the largest and to the root of how many were summed."""
    return {"f16": 2.0**-9, "bf16": 2.0**-6, "f32": 3e-5, "f64": 1e-12}[case.template.dtype]


def problem(case: Case, results: list[Tensor], inputs: list[Tensor]) -> str:
    """What is wrong with results; "" when nothing is."""
    expected = truth(case, inputs)
    sums = [s for s in case.template.tail if s.name == "sum"]
    shape = (0, case.template.features, *out_image(case.template, case.inputs[0][1][2:]))
    scale = math.sqrt(math.prod(max(shape[s.axis], 1) for s in sums))
    for index, (actual, wanted) in enumerate(zip(results, expected, strict=True)):
        if actual.shape != wanted.shape:
            return f"result {index} is {tuple(actual.shape)}, not {tuple(wanted.shape)}"
        if wanted.numel() == 0:
            continue
        if not bool(actual.isfinite().all()):
            return f"result {index} has elements that are not finite"
        error = float((actual.double() - wanted).abs().max())
        limit = tolerance(case) * max(scale, float(wanted.abs().max()))
        if not error <= limit:
            return f"result {index} is off by {error:.3g}, allowed {limit:.3g}"
    return ""


# ---- halves --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Halves:
    """A convolution of float16 or bfloat16, negated and multiplied by channel.

    Operands go to the tensor cores as they are, subnormal ones too, and results are rounded once.
    Some operands are NaN or infinite.
    """

    dtype: str
    shape: tuple[int, ...]  # of the input
    last: bool  # channels last
    kernel: int
    padding: int
    features: int

    def case(self) -> Case:
        """The case; with odd or broken eights of channels what was negated is a result too."""
        rank = len(self.shape) - 2
        template = Template(
            self.dtype, "fp32", self.shape[1], self.features, rank, (self.kernel,) * rank,
            (1,) * rank, (self.padding,) * rank, (1,) * rank, bias=True,
            tail=(Step("unary", "neg"), Step("operand", "mul", domain="channel")),
            also=0 if self.features % 16 else -1,
        )  # fmt: skip
        case = make_case(template, self.shape[0], self.shape[2:])
        if self.last:
            out = (self.shape[0], self.features, *out_image(template, self.shape[2:]))
            case.inputs[0] = (self.dtype, self.shape, channels_last(self.shape))
            case.outputs = [(self.dtype, out, channels_last(out))] * (2 + template.also)
        return case

    def values(self, device: torch.device, generator: torch.Generator) -> list[Tensor]:
        """Inputs, some of them subnormal, NaN or infinite."""
        inputs = values(self.case(), device, generator)
        x = inputs[0]
        x[0, 1] *= torch.finfo(x.dtype).smallest_normal
        x[-1, 0, ..., 1, 7] = math.nan
        x[-1, 3, ..., -1, -3] = math.inf
        return inputs

    def problem(self, results: list[Tensor], inputs: list[Tensor]) -> str:
        """What is wrong with results; "" when nothing is."""
        case = self.case()
        x, weight, _, factor = inputs
        a, b = (t.nan_to_num(0, 0, 0).double().abs() for t in (x, weight))
        summed = (1 + convolved(case.template, a, b, None)) * (1 + factor.double().abs())
        kinds = torch.finfo(x.dtype)
        for index, (actual, wanted) in enumerate(zip(results, truth(case, inputs), strict=True)):
            if not (torch.equal(actual.isnan(), wanted.isnan()) and bool(wanted.isnan().any())):
                return f"result {index} has NaN in other places"
            if not torch.equal(actual.isinf(), wanted.isinf()):
                return f"result {index} is infinite in other places"
            allowed = 1.01 * kinds.eps / 2 * wanted.abs() + 1e-6 * summed + kinds.smallest_normal
            off = ((actual.double() - wanted).abs() / allowed)[wanted.isfinite()].max().item()
            if not off <= 1:
                return f"result {index} is off by {off:.3g} times what is allowed"
        return ""


# Vectors of 8, 4, 2 and 1 neighbours, columns beyond whole chunks, rows in slices, channels side by
# side; whole, odd and broken eights of channels.
HALVES = [
    Halves("f16", (2, 16, 5, 32), False, 1, 0, 32),
    Halves("bf16", (1, 24, 6, 28), False, 3, 1, 24),
    Halves("f16", (1, 16, 4, 134), False, 3, 0, 16),
    Halves("bf16", (2, 20, 5, 29), False, 3, 1, 20),
    Halves("f16", (2, 16, 6, 22), True, 3, 1, 40),
    Halves("bf16", (1, 64, 4, 30), True, 3, 0, 32),
    Halves("f16", (1, 16, 3, 6, 13), False, 3, 1, 24),
    Halves("bf16", (1, 32, 3, 5, 14), True, 3, 1, 16),
]


@dataclass
class Tally:
    """What became of a family's cases."""

    taken: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def refuse(self, reason: str) -> None:
        """Counts a case that the family does not take."""
        self.refused[reason] = self.refused.get(reason, 0) + 1


def as_json(case: Case, strategy: str) -> dict[str, Any]:
    """For a process without PyTorch."""
    return {
        "text": case.text,
        "inputs": case.inputs,
        "outputs": case.outputs,
        "offset": case.offset,
        "alignment": case.alignment,
        "precision": case.template.precision,
        "strategy": strategy,
    }
