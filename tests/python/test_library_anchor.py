"""A convolution that the library runs faster is left to it, and the rest is a region of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dropins
import segue
from segue import _core
from segue.dropin import make_dropin
from segue.programs import Options, programs


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.conv(x) * 2.0).amin(1)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Says of every region with a convolution that the library is faster; the graphs it saw."""
    seen: list[str] = []
    get = programs.get

    def answer(graph: _core.Graph, *rest: Any) -> _core.Program | str:
        seen.append(graph.text())
        if "= convolution" in graph.text():
            return "library: expected 1 ms against 2 ms"
        return get(graph, *rest)

    monkeypatch.setattr(programs, "get", answer)
    return seen


def test_the_rest_runs_fused(library: list[str]) -> None:
    model, x = Model(), torch.randn(2, 3, 9, 9)
    fast = dropins.forced(model)
    with torch.no_grad():
        expected = model(x)
        for _ in range(2):
            torch.testing.assert_close(fast(x), expected)
    dropins.assert_fused(fast)
    plan = dropins.runtime_of(fast).last
    assert plan is not None
    assert [bool(step.program) for step in plan.steps] == [False, True]
    assert plan.steps[0].reason.startswith("library:")
    assert len(library) == 2


def test_weights_stay_live(library: list[str]) -> None:
    model, x = Model(), torch.randn(2, 3, 9, 9)
    fast = dropins.forced(model)
    with torch.no_grad():
        fast(x)
        model.conv.weight.mul_(-3.0)
        torch.testing.assert_close(fast(x), model(x))


def test_explain_says_so(library: list[str]) -> None:
    fast = make_dropin(Model(), Options(always=True), "silent")
    text = segue.explain(fast, torch.randn(2, 3, 9, 9))
    assert "Step 1, run by PyTorch: aten.convolution.default" in text
    assert "Because: library: expected 1 ms against 2 ms" in text
    assert text.kernels == 1
