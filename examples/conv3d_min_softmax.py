"""3D convolution, the minimum over the depth, and softmax over the channels."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Takes the minimum of a 3D convolution along one axis, then softmax over the channels."""

    def __init__(self, in_channels, out_channels, kernel_size, dim):
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size)
        self.dim = dim

    def forward(self, x):
        """(batch, in_channels, depth, height, width) to (batch, out_channels, ...), less `dim`."""
        x = self.conv(x)
        x = torch.min(x, dim=self.dim)[0]
        x = torch.softmax(x, dim=1)
        return x


batch_size = 128
in_channels = 3
out_channels = 24
depth, height, width = 24, 32, 32
kernel_size = 3
dim = 2


def get_inputs():
    """The arguments of one forward call."""
    return [torch.rand(batch_size, in_channels, depth, height, width)]


def get_init_inputs():
    """The arguments of the constructor."""
    return [in_channels, out_channels, kernel_size, dim]
