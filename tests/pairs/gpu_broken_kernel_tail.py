"""Broken: the last elements have no thread.

Caught by: every element of the result is written
"""

import functools

import torch
from torch import nn

SOURCE = """
extern "C" __global__ void tail(const float *conv, const float *bias, const float *gain,
                                const float *offset, double scale, float *result, int channels,
                                int pixels, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count)
        return;
    int c = i / pixels % channels;
    float x = conv[i];
    float least = x < 0.5f || x != x ? x : 0.5f;
    result[i] = (least + bias[c]) * gain[c] * (float)scale + offset[c];
}
"""


@functools.cache
def kernel(device):
    with torch.cuda.device(device):
        return torch.cuda._compile_kernel(SOURCE, "tail")


class ModelNew(nn.Module):
    def __init__(self, channels, scale=2.0):
        super().__init__()
        self.conv = nn.Conv2d(2, channels, 3)
        self.bias = nn.Parameter(torch.randn(channels, 1, 1))
        self.gain = nn.Parameter(torch.rand(channels, 1, 1))
        self.register_buffer("offset", torch.full((channels, 1, 1), 0.1))
        self.scale = scale

    def forward(self, x):
        y = self.conv(x)
        operands = [y, self.bias, self.gain, self.offset]
        if fits(operands):
            return launch(operands, self.scale)
        y = torch.min(y, torch.tensor(0.5))
        return (y + self.bias) * self.gain * self.scale + self.offset


def fits(operands):
    if torch.compiler.is_compiling() or not operands[0].numel():
        return False
    if torch.is_grad_enabled() and any(t.requires_grad for t in operands):
        return False
    return all(t.is_cuda and t.dtype == torch.float32 and t.is_contiguous() for t in operands)


def launch(operands, scale):
    y = operands[0]
    result = torch.empty_like(y)
    count, pixels = y.numel(), y.shape[-1] * y.shape[-2]
    with torch.cuda.device(y.device):
        kernel(y.device)(
            grid=(max(count // 256, 1), 1, 1),
            block=(256, 1, 1),
            args=[*operands, float(scale), result, y.shape[-3], pixels, count],
        )
    return result
