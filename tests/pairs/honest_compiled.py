"""Honest: the work is a function under torch.compile."""

import torch
import torch.nn.functional as F
from torch import nn


@torch.compile(backend="eager")
def compute(x, weight, conv_bias, bias, gain, offset):
    y = torch.min(F.conv2d(x, weight, conv_bias), torch.tensor(0.5))
    return (y + bias) * gain + offset


class ModelNew(nn.Module):
    def __init__(self, channels, scale=2.0):
        super().__init__()
        self.conv = nn.Conv2d(2, channels, 3)
        self.bias = nn.Parameter(torch.randn(channels, 1, 1))
        self.gain = nn.Parameter(torch.rand(channels, 1, 1))
        self.register_buffer("offset", torch.full((channels, 1, 1), 0.1))
        self.scale = scale

    def forward(self, x):
        conv, gain = self.conv, self.gain * self.scale
        return compute(x, conv.weight, conv.bias, self.bias, gain, self.offset)
