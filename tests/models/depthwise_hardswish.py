"""Every channel by itself."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(48, 48, 3, padding=1, groups=48, bias=False)

    def forward(self, x):
        y = nn.functional.hardswish(self.conv(x)).clamp(max=4.0)
        return torch.exp(-y) * 0.5 + y


def get_inputs():
    return [torch.rand(64, 48, 65, 67)]
