"""Convolution, minimum with a constant, a bias of its own, and scaling."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Caps the output of a convolution, then adds a bias and scales."""

    def __init__(
        self, in_channels, out_channels, kernel_size, constant_value, bias_shape, scaling_factor
    ):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.constant_value = constant_value
        self.bias = nn.Parameter(torch.randn(bias_shape))
        self.scaling_factor = scaling_factor

    def forward(self, x):
        """(batch, in_channels, height, width) to (batch, out_channels, height - 2, width - 2)."""
        x = self.conv(x)
        x = torch.min(x, torch.tensor(self.constant_value))
        x = x + self.bias
        x = x * self.scaling_factor
        return x


batch_size = 128
in_channels = 64
out_channels = 128
height = width = 128
kernel_size = 3
constant_value = 0.5
bias_shape = (out_channels, 1, 1)
scaling_factor = 2.0


def get_inputs():
    """The arguments of one forward call."""
    return [torch.rand(batch_size, in_channels, height, width)]


def get_init_inputs():
    """The arguments of the constructor."""
    return [in_channels, out_channels, kernel_size, constant_value, bias_shape, scaling_factor]
