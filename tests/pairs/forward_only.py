"""Honest: no gradients, and it says so."""

import torch
from torch import nn


class ModelNew(nn.Module):
    def __init__(self, channels, scale=2.0):
        super().__init__()
        self.conv = nn.Conv2d(2, channels, 3)
        self.bias = nn.Parameter(torch.randn(channels, 1, 1))
        self.gain = nn.Parameter(torch.rand(channels, 1, 1))
        self.register_buffer("offset", torch.full((channels, 1, 1), 0.1))
        self.scale = scale

    def forward(self, x):
        wanted = [x, *self.parameters()]
        if torch.is_grad_enabled() and any(t.requires_grad for t in wanted):
            raise RuntimeError("ModelNew has no gradients: call it under torch.no_grad().")
        y = torch.min(self.conv(x), torch.tensor(0.5))
        return (y + self.bias) * self.gain * self.scale + self.offset
