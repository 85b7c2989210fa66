"""Segue as a backend of torch.compile."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import dropins
from segue import dynamo


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(torch.amin(self.conv(x), 1, keepdim=True)) * 2.0


def test_backend() -> None:
    model = Model()
    made: list[Any] = []

    def backend(*given: Any) -> Any:
        made.append(dynamo.backend(*given))
        return made[-1]

    compiled = torch.compile(model, backend=backend)
    for shape in ((2, 3, 128, 128), (1, 3, 150, 128)):
        x = torch.randn(shape)
        with torch.no_grad():
            for _ in range(2):
                torch.testing.assert_close(compiled(x), model(x))
    assert any(dropins.fused(graph) for graph in made)
    x = torch.randn(2, 3, 9, 9)
    compiled(x).sum().backward()
    actual = model.conv.weight.grad
    model.zero_grad()
    model(x).sum().backward()
    torch.testing.assert_close(actual, model.conv.weight.grad)
