"""Broken: sums of the convolution are kept in bfloat16 and widened afterwards.

Caught by: fresh inputs as the file draws them
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
        conv = self.conv
        y = nn.functional.conv2d(x.bfloat16(), conv.weight.bfloat16(), conv.bias.bfloat16())
        y = torch.min(y.to(x.dtype), torch.tensor(0.5))
        return (y + self.bias) * self.gain * self.scale + self.offset
