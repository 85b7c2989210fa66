"""Every row of the operator table, made from the table: alone, and behind a convolution."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dropins
from segue.lower import Rule, overload_of, rules

DOMAINS = {
    "real": (-4.0, 4.0),
    "wide": (-40.0, 40.0),
    "positive": (0.01, 8.0),
    "masked": (-4.0, 4.0),
}
CRUEL = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, 1e-40, -1e-40, 3e4, -3e4, 0.5)

every_rule = [rule for found in rules().values() for rule in found]
pointwise = [r for r in every_rule if r.row["kind"] == "pointwise"]
with_floats = [r for r in pointwise if r.overload != "where.Scalar"]
whole = [r for r in every_rule if r.row["kind"] in ("reduction", "softmax", "view")]


def rule_id(rule: Rule) -> str:
    return f"{rule.row['name']}-{rule.overload}"


def schema_of(rule: Rule) -> Any:
    return overload_of(rule)._schema


@pytest.mark.parametrize("rule", every_rule, ids=rule_id)
def test_overloads_exist(rule: Rule) -> None:
    overload = overload_of(rule)
    assert overload is not None
    names = {a.name for a in overload._schema.arguments}
    assert set(rule.requirements) <= names


class Tail(nn.Module):
    """One operator on its arguments, behind a convolution of the first or not."""

    def __init__(
        self, rule: Rule, arguments: list[tuple[str, Any]], first: int = 0, channels: int = 0
    ) -> None:
        super().__init__()
        self.function = overload_of(rule)
        self.first_only = rule.first_of_several
        self.arguments = arguments
        self.first = first
        self.conv = nn.Conv2d(3, channels, 3) if channels else None

    def forward(self, *tensors: Tensor) -> Any:
        tensors_left = list(tensors)
        if self.conv is not None:
            tensors_left[self.first] = self.conv(tensors_left[self.first])
        given = iter(tensors_left)
        named = {k: next(given) if v is Tensor else v for k, v in self.arguments}
        args, kwargs = [], {}
        for argument in self.function._schema.arguments:
            if argument.name in named:
                if argument.kwarg_only:
                    kwargs[argument.name] = named[argument.name]
                else:
                    args.append(named[argument.name])
        out = self.function(*args, **kwargs)
        return out[0] if self.first_only else out


class Then(nn.Module):
    """What does not change values is nothing to run alone: something follows it."""

    def __init__(self, tail: nn.Module) -> None:
        super().__init__()
        self.tail = tail

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.tail(x * 2.0)).abs()


VALUES = {"none": "none", "tanh": "tanh", "True": True, "False": False, "None": None}
SCALARS = {"pow": 2.5, "rsub": 3.0, "div": 3.0}
ATTRIBUTES = {"alpha": 1.5, "beta": 2.0, "threshold": 0.25, "value": 0.75, "negative_slope": 0.125}


def arguments_of(
    rule: Rule, dtype: torch.dtype = torch.float32
) -> tuple[list[tuple[str, Any]], list[bool]]:
    """(name, value) for each argument, Tensor for a tensor; and which tensors are masks."""
    named: list[tuple[str, Any]] = []
    masks: list[bool] = []
    attributes = {a["name"] for a in rule.row["attributes"]}
    for argument in schema_of(rule).arguments:
        kind = str(argument.type)
        if argument.name in rule.requirements:
            wanted = rule.requirements[argument.name]
            if wanted == "*":
                if argument.has_default_value():
                    continue
                named.append((argument.name, 0.5 if "float" in kind else False))
            else:
                named.append((argument.name, VALUES[wanted]))
        elif argument.name == "dtype" and "dtype" in attributes:
            other = torch.float32 if dtype != torch.float32 else torch.float64
            named.append((argument.name, other))
        elif argument.name in ATTRIBUTES and argument.name in attributes:
            named.append((argument.name, ATTRIBUTES[argument.name]))
        elif kind in ("Tensor", "Optional[Tensor]") and (
            kind == "Tensor" or rule.row["name"] == "clamp_tensor"
        ):
            named.append((argument.name, Tensor))
            masks.append(
                (rule.row["result"] == "select" and len(masks) == 0)
                or (rule.row["result"] == "mask" and len(masks) == 1)
            )
        elif not argument.has_default_value():
            named.append((argument.name, SCALARS.get(rule.row["name"], 0.5)))
        elif rule.overload == "clamp.default" and argument.name in ("min", "max"):
            named.append((argument.name, -0.5 if argument.name == "min" else 1.5))
    return named, masks


def draw(domain: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    low, high = DOMAINS[domain]
    return (torch.rand(shape, dtype=torch.float64) * (high - low) + low).to(dtype)


def operands(
    rule: Rule, masks: list[bool], shape: tuple[int, ...], dtype: torch.dtype
) -> list[Tensor]:
    made = [
        torch.rand(shape) < 0.5 if mask else draw(rule.row["domain"], shape, dtype)
        for mask in masks
    ]
    if rule.overload == "masked_fill.Tensor":
        made[-1] = torch.tensor(0.625, dtype=dtype)
    return made


def alone(rule: Rule, dtype: torch.dtype) -> tuple[nn.Module, list[bool]]:
    named, masks = arguments_of(rule, dtype)
    module: nn.Module = Tail(rule, named)
    return (Then(module) if rule.row["name"] in ("identity", "cast") else module), masks


def check(module: nn.Module, inputs: tuple[Tensor, ...], roundings: float) -> None:
    dropin = dropins.forced(module)
    with torch.no_grad():
        eager = module(*inputs)
        actual = dropin(*inputs)
    dropins.assert_fused(dropin)
    truth = dropins.in_double(module, inputs)
    dropins.assert_as_good(actual, eager, truth, roundings)


@pytest.mark.parametrize("dtype", dropins.FLOATS, ids=str)
@pytest.mark.parametrize("rule", pointwise, ids=rule_id)
def test_pointwise_alone(rule: Rule, dtype: torch.dtype) -> None:
    module, masks = alone(rule, dtype)
    check(module, tuple(operands(rule, masks, (3, 5, 37), dtype)), 2 + rule.row["ulp"])


@pytest.mark.parametrize(
    "rule", [r for r in pointwise if r.overload != "where.Scalar"], ids=rule_id
)
def test_pointwise_behind_a_convolution(rule: Rule) -> None:
    named, masks = arguments_of(rule)
    first = masks.index(False)
    inputs = operands(rule, masks, (2, 6, 7, 9), torch.float32)
    inputs[first] = torch.rand(2, 3, 9, 11)
    module = Tail(rule, named, first, 6)
    if rule.row["domain"] == "positive" or rule.row["name"] == "reciprocal":
        assert module.conv is not None
        assert module.conv.bias is not None
        nn.init.uniform_(module.conv.weight, 0.1, 0.3)
        nn.init.uniform_(module.conv.bias, 0.1, 0.3)
    check(module, tuple(inputs), 8 + rule.row["ulp"])


# PyTorch's own sign depends on where in a tensor the two zeros stand.
UNSIGNED_ZEROS = ["minimum", "maximum", "clamp_tensor"]
if not torch.nn.functional.elu(torch.tensor(-0.0)).signbit():  # of PyTorch 2.6
    UNSIGNED_ZEROS += ["elu", "selu", "celu"]
# Operands: enough of each combination that PyTorch's vectorised loop takes them all.
REPEATS = 64


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("rule", pointwise, ids=rule_id)
def test_pointwise_on_cruel_values(rule: Rule, dtype: torch.dtype) -> None:
    """NaN, infinities, zeros of both signs, subnormals: as PyTorch has them, or as it should."""
    module, masks = alone(rule, dtype)
    values = torch.tensor(CRUEL, dtype=torch.float64).to(dtype)
    grids = torch.meshgrid(*[values] * max(masks.count(False), 1), indexing="ij")
    given = iter(g.flatten().repeat(REPEATS) for g in grids)
    inputs = operands(rule, masks, (grids[0].numel() * REPEATS,), dtype)
    inputs = [x if x.dtype == torch.bool or not x.dim() else next(given) for x in inputs]
    dropin = dropins.forced(module)
    with torch.no_grad():
        eager, actual = module(*inputs), dropin(*inputs)
    dropins.assert_fused(dropin)
    dropins.assert_same_layout(actual, eager)
    truth = dropins.in_double(module, tuple(inputs)).to(eager.dtype)
    tolerance = 2e-5 if dtype == torch.float32 else 1e-12
    close = torch.zeros(actual.shape, dtype=torch.bool)
    for expected in (eager, truth):
        close |= torch.isclose(actual, expected, rtol=tolerance, atol=1e-37, equal_nan=True)
    assert close.all(), [x[~close][:3] for x in (*inputs, actual, eager) if x.shape == close.shape]
    zeros = (actual == 0) & (eager == 0)
    if actual.dtype != torch.bool and rule.row["name"] not in UNSIGNED_ZEROS:
        assert torch.equal(actual[zeros].signbit(), eager[zeros].signbit()), "signs of zeros differ"


def whole_arguments(rule: Rule, dim: Any, keepdim: bool) -> list[tuple[str, Any]]:
    named: list[tuple[str, Any]] = []
    for argument in schema_of(rule).arguments:
        kind = str(argument.type)
        if argument.name in ("self", "input"):
            named.append((argument.name, Tensor))
        elif argument.name == "dim" and "dim" in kind + argument.name:
            named.append((argument.name, dim if "List" in kind else dim[0]))
        elif argument.name == "keepdim":
            named.append((argument.name, keepdim))
        elif argument.name in ("shape", "size"):
            named.append((argument.name, [2, 6, 63]))
        elif argument.name == "dims":
            named.append((argument.name, [0, 2, 3, 1]))
        elif argument.name in rule.requirements:
            named.append((argument.name, VALUES[rule.requirements[argument.name]]))
        elif not argument.has_default_value():
            named.append((argument.name, {"dim0": 1, "dim1": 2}[argument.name]))
    return named


@pytest.mark.parametrize("dtype", dropins.FLOATS, ids=str)
@pytest.mark.parametrize("channels", (0, 6), ids=("alone", "conv"))
@pytest.mark.parametrize("rule", whole, ids=rule_id)
def test_reductions_softmax_and_views(rule: Rule, channels: int, dtype: torch.dtype) -> None:
    shape = (2, 3, 9, 11) if channels else (2, 6, 7, 9)
    x = draw("real", shape, dtype)
    tail = Tail(rule, whole_arguments(rule, [1], True), 0, channels).to(dtype)
    module = Then(tail) if rule.row["kind"] == "view" else tail
    # A product of several hundred factors has that many roundings.
    check(module, (x,), 500 if rule.row["name"] == "prod" else 16)


@pytest.mark.parametrize("dim", ([0], [2], [3], [1, 2], [2, 3], [1, 2, 3], [0, 1, 2, 3]), ids=str)
@pytest.mark.parametrize("keepdim", (True, False))
@pytest.mark.parametrize(
    "rule",
    [
        r
        for r in whole
        if r.row["kind"] == "reduction"
        and any(a.name == "dim" and "List" in str(a.type) for a in schema_of(r).arguments)
    ],
    ids=rule_id,
)
def test_reductions_over_any_axes(rule: Rule, keepdim: bool, dim: list[int]) -> None:
    """Whatever axes: right, fused or not."""
    module = Tail(rule, whole_arguments(rule, dim, keepdim), channels=6)
    x = torch.randn(2, 3, 9, 11)
    dropin = dropins.forced(module)
    with torch.no_grad():
        eager, actual = module(x), dropin(x)
    dropins.assert_as_good(actual, eager, dropins.in_double(module, (x,)), 16)
