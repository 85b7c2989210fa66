"""Convolution, scaling, and the minimum over the channels."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Scales the output of a convolution and keeps each pixel's smallest channel."""

    def __init__(self, in_channels, out_channels, kernel_size, scale_factor):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.scale_factor = scale_factor

    def forward(self, x):
        """(batch, in_channels, height, width) to (batch, 1, height - 2, width - 2)."""
        x = self.conv(x)
        x = x * self.scale_factor
        x = torch.min(x, dim=1, keepdim=True)[0]
        return x


batch_size = 64
in_channels = 64
out_channels = 128
height = width = 256
kernel_size = 3
scale_factor = 2.0


def get_inputs():
    """The arguments of one forward call."""
    return [torch.rand(batch_size, in_channels, height, width)]


def get_init_inputs():
    """The arguments of the constructor."""
    return [in_channels, out_channels, kernel_size, scale_factor]
