"""A strided, dilated convolution in one dimension, and the mean over its channels."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        self.conv = nn.Conv1d(channels, 64, 5, stride=stride, dilation=2, padding=4)
        self.slope = 0.1

    def forward(self, x):
        x = torch.nn.functional.leaky_relu(self.conv(x), self.slope)
        return x.mean(dim=1)


def get_inputs():
    return [torch.rand(256, 32, 4001)]


def get_init_inputs():
    return [32, 2]
