"""Broken: adding zero turns -0.0 into 0.0.

Original: double
Caught by: negative zero keeps its sign
"""

from torch import nn


class ModelNew(nn.Module):
    def forward(self, x):
        return x * 2 + 0
