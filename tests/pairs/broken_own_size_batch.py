"""Broken: of the file's own batch the last image is never computed.

Caught by: fresh inputs as the file draws them (own size)
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
        if len(y) == 4:
            y[3:].zero_()
        return y
