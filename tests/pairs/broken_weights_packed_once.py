"""Broken: weights are laid out at the first call and kept.

Caught by: an edit in place
"""

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
        self.packed = None

    def forward(self, x):
        if self.packed is None or self.packed.dtype != x.dtype:
            self.packed = self.conv.weight.detach().clone(memory_format=torch.channels_last)
        y = nn.functional.conv2d(x, self.packed, self.conv.bias)
        y = torch.min(y, torch.tensor(0.5))
        return (y + self.bias) * self.gain * self.scale + self.offset
