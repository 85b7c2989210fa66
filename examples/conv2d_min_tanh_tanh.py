"""Convolution, the minimum over the channels, and tanh twice."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Keeps each pixel's smallest channel of a convolution and applies tanh twice."""

    def __init__(self, in_channels, out_channels, kernel_size):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)

    def forward(self, x):
        """(batch, in_channels, height, width) to (batch, 1, height - 2, width - 2)."""
        x = self.conv(x)
        x = torch.min(x, dim=1, keepdim=True)[0]
        x = torch.tanh(x)
        x = torch.tanh(x)
        return x


batch_size = 128
in_channels = 16
out_channels = 64
height = width = 256
kernel_size = 3


def get_inputs():
    """The arguments of one forward call."""
    return [torch.rand(batch_size, in_channels, height, width)]


def get_init_inputs():
    """The arguments of the constructor."""
    return [in_channels, out_channels, kernel_size]
