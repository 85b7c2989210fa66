"""Broken: a way of its own for the file's own batch takes a NaN for missing.

Caught by: NaN goes through as in the original (own size)
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

    def forward(self, x):
        minimum = torch.fmin if x.shape == (4, 2, 12, 11) else torch.min
        y = minimum(self.conv(x), torch.tensor(0.5))
        return (y + self.bias) * self.gain * self.scale + self.offset
