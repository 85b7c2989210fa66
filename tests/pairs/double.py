"""An original whose zeros have a sign: every element doubled."""

import torch
from torch import nn


class Model(nn.Module):
    def forward(self, x):
        return x * 2


def get_inputs():
    return [torch.rand(4, 2, 5, 5)]
