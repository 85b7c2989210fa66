"""A grouped convolution in three dimensions, multiplied by its own sigmoid and scaled."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(8, 32, (1, 3, 3), padding=(0, 1, 1), groups=2)
        self.scale = nn.Parameter(torch.randn(32, 1, 1, 1))

    def forward(self, x):
        x = self.conv(x)
        return x * torch.sigmoid(x) * self.scale


def get_inputs():
    return [torch.rand(32, 8, 15, 47, 63)]
