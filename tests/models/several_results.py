"""A dictionary of results; an operand that is the argument itself; writing in place."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(24, 24, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.act(self.conv(x)) + x
        best, where = y.topk(3, dim=3)
        return {"image": y, "best": (best, where), "count": 3}


def get_inputs():
    return [torch.rand(64, 24, 95, 61)]
