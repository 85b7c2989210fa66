"""Broken: results are put together in memory that all streams share.

Caught by: several threads with a stream each
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
        self.place = None

    def compute(self, x):
        y = torch.min(self.conv(x), torch.tensor(0.5))
        return (y + self.bias) * self.gain * self.scale + self.offset

    def forward(self, x):
        y = self.compute(x)
        if self.place is None or self.place.shape != y.shape:
            self.place = torch.empty_like(y)
        self.place.copy_(y)
        torch.cuda._sleep(20_000_000)
        return self.place.clone()
