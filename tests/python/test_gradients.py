"""Gradients through a drop-in are eager PyTorch's, to any order."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dropins
import segue


class Model(nn.Module):
    """Smooth, so that numerical gradients are exact enough."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        out = torch.sigmoid(self.conv(x) * self.scale).mean(1)
        return out if y is None else out * y


class Several(nn.Module):
    """One result with a gradient, one without, one that is no number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = torch.tanh(self.conv(x))
        with torch.no_grad():
            still = y * 2.0
        return y.sum(1), still, y > 0


def pair(module: nn.Module) -> tuple[Any, Any]:
    """A drop-in and a copy of the original, of equal weights."""
    return dropins.forced(module), copy.deepcopy(module)


def gradients(module: nn.Module, *inputs: Any) -> list[Tensor | None]:
    module.zero_grad()
    fresh = [x.detach().requires_grad_() for x in inputs]
    out = module(*fresh)
    (out * torch.linspace(0.5, 2.0, out.numel()).view_as(out)).sum().backward()
    return [x.grad for x in (*fresh, *module.parameters())]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 2, 5, 6)


def untrained(dropin: nn.Module) -> None:
    """Forgets that a backward has come, after which gradients come from the original."""
    dropins.runtime_of(dropin)._trains = False


def test_gradients_are_eagers(x: Tensor) -> None:
    dropin, original = pair(Model())
    expected = gradients(original, x)
    for _ in range(3):
        untrained(dropin)
        for actual, wanted in zip(gradients(dropin, x), expected, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=0, atol=0)


def test_the_forward_runs_fused_until_a_backward_comes(x: Tensor) -> None:
    dropin, _ = pair(Model())
    out = dropin(x)
    out = dropin(x)
    assert type(out.grad_fn).__name__ == "RecomputeBackward"
    out.sum().backward()
    assert type(dropin(x).grad_fn).__name__ != "RecomputeBackward"


def test_only_what_needs_a_gradient_gets_one(x: Tensor) -> None:
    dropin, original = pair(Model())
    for module in (dropin, original):
        module.conv.weight.requires_grad_(False)
        out = module(x)
        out = module(x)
        out.sum().backward()
        assert module.conv.weight.grad is None
        assert module.scale.grad is not None
    assert torch.equal(dropin.scale.grad, original.scale.grad)


def test_arguments_by_name_and_two_of_them(x: Tensor) -> None:
    dropin, original = pair(Model())
    results = []
    for module in (dropin, original):
        y = torch.linspace(-1, 1, 2 * 3 * 4).view(2, 3, 4).requires_grad_()
        for _ in range(2):
            y.grad = None
            module.zero_grad()
            module(x, y=y).square().sum().backward()
            results.append((y.grad, module.scale.grad))
            if module is dropin:
                untrained(dropin)
    torch.testing.assert_close(results[1], results[3])


def test_results_without_gradients(x: Tensor) -> None:
    dropin, original = pair(Several())
    for _ in range(3):
        actual, expected = dropin(x), original(x)
        for a, e in zip(actual, expected, strict=True):
            assert a.requires_grad == e.requires_grad
            assert torch.allclose(a.double(), e.double(), atol=1e-5)
    actual[0].sum().backward()
    expected[0].sum().backward()
    assert torch.equal(dropin.conv.weight.grad, original.conv.weight.grad)


def test_frozen_modules_pay_nothing(x: Tensor) -> None:
    dropin, _ = pair(Model().requires_grad_(False))
    for _ in range(2):
        assert not dropin(x).requires_grad
    assert dropins.fused(dropin)


def test_second_and_third_order() -> None:
    module = Model().double()
    dropin = dropins.forced(module)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    dropin(x)

    def function(x: Tensor, *_: Tensor) -> Tensor:
        untrained(dropin)
        return dropin(x)

    parameters = tuple(module.parameters())
    assert torch.autograd.gradcheck(function, (x, *parameters))
    assert torch.autograd.gradgradcheck(function, (x, *parameters))

    def derivative(f: nn.Module, order: int) -> Tensor:
        untrained(dropin)
        y = f(x).sum() * 3.0
        for _ in range(order):
            (y,) = torch.autograd.grad(y, x, create_graph=True)
            y = y.square().sum()
        (result,) = torch.autograd.grad(y, parameters[0])
        return result

    for order in (1, 2, 3):
        torch.testing.assert_close(derivative(dropin, order), derivative(module, order))


def test_a_parameter_used_before_the_module_too(x: Tensor) -> None:
    """The gradient of what came before must not be counted twice."""
    dropin, original = pair(Model())
    results = []
    for module in (dropin, original):
        for _ in range(2):
            untrained(dropin)
            out = module(x * module.scale)
            (first,) = torch.autograd.grad(out.sum(), module.scale, create_graph=True)
            (second,) = torch.autograd.grad(first, module.scale)
            results.append((first.detach(), second))
    torch.testing.assert_close(results[1], results[3])


def test_training_gives_the_same_weights(x: Tensor) -> None:
    dropin, original = pair(Model())
    for module in (dropin, original):
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            module(x).square().sum().backward()
            optimizer.step()
    for a, b in zip(dropin.parameters(), original.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_an_edit_before_backward_is_refused_as_in_eager(x: Tensor) -> None:
    dropin, original = pair(Model())
    for module in (dropin, original):
        module(x)
        out = module(x)
        with torch.no_grad():
            module.conv.weight.mul_(2.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            (out.sum() + module(x.clone().requires_grad_()).sum()).backward()


def test_another_mode_before_backward_is_refused(x: Tensor) -> None:
    dropin, _ = pair(Model())
    dropin(x)
    out = dropin(x)
    dropin.train(not dropin.training)
    with pytest.raises(RuntimeError, match="changed between forward and backward"):
        out.sum().backward()


def test_backward_twice_needs_retain_graph(x: Tensor) -> None:
    dropin, _ = pair(Model())
    dropin(x)
    out = dropin(x)
    out.sum().backward(retain_graph=True)
    out.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        out.sum().backward()


def test_in_a_larger_model(x: Tensor) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(2, 2, 3, padding=1)
            self.inner = Model()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(torch.relu(self.first(x))).exp()

    original = Outer()
    fused: Any = copy.deepcopy(original)
    fused.inner = segue.optimize(fused.inner, fallback="silent")
    for _ in range(2):
        for a, b in zip(gradients(fused, x), gradients(original, x), strict=True):
            torch.testing.assert_close(a, b)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), original(x))
