"""Broken: work is skipped when the input has the shape of the last one.

Caught by: results are not remembered
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
        self.key = self.kept = None

    def compute(self, x):
        y = torch.min(self.conv(x), torch.tensor(0.5))
        return (y + self.bias) * self.gain * self.scale + self.offset

    def forward(self, x):
        key = x.shape
        if key != self.key:
            self.key, self.kept = key, self.compute(x)
        return self.kept.clone()
