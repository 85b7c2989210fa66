"""Arguments with defaults, some of them keywords alone; a second tensor."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Model(nn.Module):
    def __init__(self, channels: int, *, out_channels: int = 48):
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 5, stride=2, bias=False)

    def forward(
        self, x: Tensor, gate: Tensor, scale: float = 2.0, *, negate: bool = False
    ) -> Tensor:
        y = self.conv(x) * gate
        if negate:
            y = -y
        return torch.clamp(y * scale, min=0.0)


def get_inputs():
    return [torch.rand(64, 6, 127, 111), torch.rand(64, 1, 62, 54)]


def get_init_inputs():
    return [6]
