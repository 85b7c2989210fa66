"""Broken: a lambda in the module cannot be pickled.

Caught by: pickle gives an equal module
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
        self.scaled = lambda y: y * scale

    def forward(self, x):
        y = torch.min(self.conv(x), torch.tensor(0.5))
        return self.scaled((y + self.bias) * self.gain) + self.offset
