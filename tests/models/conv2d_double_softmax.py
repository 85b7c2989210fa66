"""Double precision, and a softmax over the channels."""

import torch


class Model(torch.nn.Module):
    def __init__(self):
        super(Model, self).__init__()  # noqa: UP008  (as many write it)
        self.layer = torch.nn.Conv2d(4, 12, (3, 1), stride=(2, 1)).double()

    def forward(self, x):
        return torch.softmax(self.layer(x) * 3.0, dim=1)


def get_inputs():
    return [torch.rand(32, 4, 255, 129, dtype=torch.float64)]


def get_init_inputs():
    return []
