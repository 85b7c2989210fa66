"""What is captured of a module, and what is not."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segue.capture import capture
from segue.lower import lower
from segue.trace import NotCapturedError


class Function(nn.Module):
    """A forward() given as a function of the module and its arguments, with a few tensors."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(3, 8, 3)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.norm = nn.BatchNorm2d(8)
        self.register_buffer("shift", torch.zeros(8, 1, 1))
        self.plain = torch.ones(8, 1, 1)
        self.notes: list[Any] = []

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def text_of(function: Any, *args: Any, **kwargs: Any) -> str:
    module = Function(function).eval()
    found, result = capture(Function.forward, module, args, kwargs)
    if result is not None:
        assert torch.equal(result, module(*args, **kwargs))
    return lower(found, "g").text


def reason_of(function: Any, *args: Any, train: bool = False) -> str:
    module = Function(function).train(train)
    with pytest.raises(NotCapturedError) as caught:
        capture(Function.forward, module, args, {})
    return str(caught.value)


X = torch.randn(2, 3, 6, 7)
ONES = "{stride=[1, 1], padding=[0, 0], dilation=[1, 1]}"


def test_text_of_a_convolution_and_its_tail() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = torch.min(m.conv(x), dim=1, keepdim=True)[0]
        return torch.tanh(y * 2.0 + m.scale)

    assert text_of(forward, X).splitlines() == [
        "graph g {",
        "  %x0 = input : f32[2, 3, 6, 7]",
        "  %conv.weight = input {param=true} : f32[8, 3, 3, 3]",
        "  %conv.bias = input {param=true} : f32[8]",
        "  %scale = input {param=true} : f32[]",
        f"  %convolution = convolution %x0, %conv.weight, %conv.bias {ONES} : f32[2, 8, 4, 5]",
        "  %amin = amin %convolution {dim=[1], keepdim=true} : f32[2, 1, 4, 5]",
        "  %mul = mul %amin, 2.0 : f32[2, 1, 4, 5]",
        "  %add = add %mul, %scale : f32[2, 1, 4, 5]",
        "  %tanh = tanh %add : f32[2, 1, 4, 5]",
        "  output %tanh",
        "}",
    ]


def test_constants_are_strong_and_exact() -> None:
    text = text_of(lambda m, x: torch.min(x, torch.tensor(0.1)), X)
    value = torch.tensor(0.1).item()
    assert f"constant {{value={value!r}, weak=false}} : f32[]" in text
    text = text_of(lambda m, x: x * math.inf, X)
    assert "mul %x0, inf" in text


def test_integer_constants_are_weak() -> None:
    assert "mul %x0, 3.0" in text_of(lambda m, x: x * torch.tensor(3), X)


def test_larger_constants_are_inputs() -> None:
    text = text_of(lambda m, x: x + torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1), X)
    assert "%constant = input {param=true} : f32[3, 1, 1]" in text


def test_tensors_of_the_module_are_inputs() -> None:
    text = text_of(lambda m, x: m.conv(x) + m.shift * m.plain, X)
    assert "%shift = input {param=true} : f32[8, 1, 1]" in text
    assert "%plain = input {param=true} : f32[8, 1, 1]" in text


def test_padding_by_name() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return F.conv2d(x, m.conv.weight, padding="same") + 1.0

    assert "padding=[1, 1]" in text_of(forward, X)


def test_convolution_without_bias_has_two_operands() -> None:
    text = text_of(lambda m, x: F.conv2d(x, m.conv.weight) + 1.0, X)
    assert "convolution %x0, %conv.weight {" in text


def test_in_place_operators_take_new_names() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.conv(x)
        y += 1.0
        F.relu(y, inplace=True)
        return y.mul_(m.scale)

    text = text_of(forward, X)
    assert [line.split()[2] for line in text.splitlines() if " : " in line][-4:] == [
        "convolution",
        "add",
        "relu",
        "mul",
    ]


def test_unknown_operators_are_foreign() -> None:
    text = text_of(lambda m, x: torch.tanh(F.max_pool2d(m.conv(x), 2)) + 1.0, X)
    assert "%max_pool2d_with_indices = foreign %convolution {tag=1} : opaque" in text
    assert "foreign %max_pool2d_with_indices {tag=-2} : f32[2, 8, 2, 2]" in text


def test_named_arguments() -> None:
    text = text_of(lambda m, x, scale, y: x * scale + y, X, scale=0.25, y=X[:1])
    assert "%y = input : f32[1, 3, 6, 7]" in text
    assert "mul %x0, 0.25" in text


def test_dropout_in_eval_vanishes() -> None:
    assert "dropout" not in text_of(lambda m, x: F.dropout(x * 2.0, 0.5, m.training), X)


def item(m: Any, x: Tensor) -> Tensor:
    return x * float(x.sum())


def branch(m: Any, x: Tensor) -> Tensor:
    return x * 2.0 if bool((x > 0).any()) else x * 3.0


def numpy(m: Any, x: Tensor) -> Tensor:
    return x * float(x.detach().numpy().max())


def parameter_list(m: Any, x: Tensor) -> Tensor:
    return x * m.scale.tolist()


def indices(m: Any, x: Tensor) -> Tensor:
    return x[x > 0] * 2.0


def counted(m: Any, x: Tensor) -> Tensor:
    return x * float(torch.nonzero(x).shape[0])


def random(m: Any, x: Tensor) -> Tensor:
    return x + torch.rand_like(x)


def changes_argument(m: Any, x: Tensor) -> Tensor:
    return x.add_(1.0) * 2.0


def changes_buffer(m: Any, x: Tensor) -> Tensor:
    m.shift.add_(1.0)
    return m.conv(x) + m.shift


def changes_attribute(m: Any, x: Tensor) -> Tensor:
    m.last = x * 2.0
    return m.conv(x)


def appends(m: Any, x: Tensor) -> Tensor:
    m.notes.append(x)
    return m.conv(x)


elsewhere = torch.ones(1)


def foreign_tensor(m: Any, x: Tensor) -> Tensor:
    return x + elsewhere


def returns_argument(m: Any, x: Tensor) -> Tensor:
    return x


def returns_view(m: Any, x: Tensor) -> Tensor:
    return x.transpose(1, 2)


def returns_parameter(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    return x * 2.0, m.scale


def returns_aliases(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    y = x * 2.0
    return y, y.flatten()


def view_written(m: Any, x: Tensor) -> Tensor:
    y = x * 2.0
    y[:, 0].zero_()
    return y


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (item, "data"),
        (branch, "data"),
        (numpy, "data by numpy"),
        (parameter_list, "data by tolist"),
        (indices, "depends on data"),
        (counted, "depends on data"),
        (random, "random"),
        (changes_argument, "changes an argument"),
        (changes_buffer, "changes an argument or a tensor of the module"),
        (changes_attribute, "attributes"),
        (appends, "attributes"),
        (foreign_tensor, "neither an argument nor the module's"),
        (returns_argument, "shares memory"),
        (returns_view, "shares memory"),
        (returns_parameter, "of the module"),
        (returns_aliases, "share memory"),
        (view_written, "views"),
    ],
)
def test_what_is_not_captured(function: Any, words: str) -> None:
    assert words in reason_of(function, X.clone())


def test_statistics_in_training_are_not_captured_and_not_touched() -> None:
    module = Function(lambda m, x: m.norm(m.conv(x))).train()
    before = module.norm.running_mean.clone()  # type: ignore[union-attr]
    with pytest.raises(NotCapturedError):
        capture(Function.forward, module, (X,), {})
    assert torch.equal(module.norm.running_mean, before)  # type: ignore[arg-type]
    assert int(module.norm.num_batches_tracked) == 0  # type: ignore[arg-type]


def test_attributes_are_put_back() -> None:
    module = Function(changes_attribute)
    with pytest.raises(NotCapturedError):
        capture(Function.forward, module, (X,), {})
    assert not hasattr(module, "last")
    module = Function(appends)
    with pytest.raises(NotCapturedError):
        capture(Function.forward, module, (X,), {})
    assert module.notes == []


def test_random_numbers_are_not_drawn() -> None:
    module = Function(random)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with pytest.raises(NotCapturedError):
        capture(Function.forward, module, (X,), {})
    assert torch.equal(torch.rand(3), expected)


def test_hooks_on_submodules() -> None:
    module = Function(lambda m, x: m.conv(x) * 2.0)
    module.conv.register_forward_hook(lambda *_: None)
    with pytest.raises(NotCapturedError, match="hook is registered on conv"):
        capture(Function.forward, module, (X,), {})
