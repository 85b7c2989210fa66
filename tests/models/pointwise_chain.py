"""No convolution: a chain on two tensors and a buffer."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.randn(1, 64, 1, 1))
        self.weights = [0.25, 0.75]

    def forward(self, a, b):
        y = torch.tanh(a - self.mean) * self.weights[0] + torch.sigmoid(b) * self.weights[1]
        return y / (1 + torch.exp(-y))


def get_inputs():
    return [torch.rand(64, 64, 63, 65), torch.rand(64, 64, 63, 65)]
