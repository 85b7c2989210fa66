"""Broken: bias is drawn before the convolution's parameters.

Caught by: the same seed gives the same parameters and buffers
"""

import torch
from torch import nn


class ModelNew(nn.Module):
    def __init__(self, channels, scale=2.0):
        super().__init__()
        bias = torch.randn(channels, 1, 1)
        self.conv = nn.Conv2d(2, channels, 3)
        self.bias = nn.Parameter(bias)
        self.gain = nn.Parameter(torch.rand(channels, 1, 1))
        self.register_buffer("offset", torch.full((channels, 1, 1), 0.1))
        self.scale = scale

    def forward(self, x):
        y = torch.min(self.conv(x), torch.tensor(0.5))
        return (y + self.bias) * self.gain * self.scale + self.offset
