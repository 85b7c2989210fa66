"""Broken: as if threads raced for the order of a sum.

Caught by: repeated calls are equal bit for bit
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

    def compute(self, x):
        y = torch.min(self.conv(x), torch.tensor(0.5))
        return (y + self.bias) * self.gain * self.scale + self.offset

    def forward(self, x):
        y = self.compute(x)
        return torch.where(torch.rand_like(y) < 0.01, torch.nextafter(y, torch.zeros_like(y)), y)
