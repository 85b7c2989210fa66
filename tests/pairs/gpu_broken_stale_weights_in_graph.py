"""Broken: weights laid out at the first call are taken while they are the same tensor.

Caught by: a CUDA graph captures a call
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
        weight = self.conv.weight
        if self.packed is None or self.packed[0] != (id(weight), weight._version):
            self.packed = (id(weight), weight._version), weight.detach().clone()
        y = nn.functional.conv2d(x, self.packed[1], self.conv.bias)
        y = torch.min(y, torch.tensor(0.5))
        return (y + self.bias) * self.gain * self.scale + self.offset
