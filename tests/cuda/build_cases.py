"""Graphs to build kernels of: anchors of many shapes, each with one of the tails.

Anchors and tails are text; {c} is the anchor's channels, {rank} its spatial dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Anchor:
    """A convolution."""

    channels: int
    out_channels: int
    kernel: tuple[int, ...]
    size: tuple[int, ...]
    batch: int = 2
    groups: int = 1
    attributes: str = ""
    dtype: str = "f32"

    def text(self) -> str:
        """Its statements; the result is %c."""
        size = ", ".join(str(n) for n in (self.batch, self.channels, *self.size))
        inner = self.channels // self.groups
        kernel = ", ".join(str(n) for n in (self.out_channels, inner, *self.kernel))
        attributes = f"groups={self.groups}" + (f", {self.attributes}" if self.attributes else "")
        return (
            f"  %x = input : {self.dtype}[{size}]\n"
            f"  %w = input : {self.dtype}[{kernel}]\n"
            f"  %b = input : {self.dtype}[{self.out_channels}]\n"
            f"  %c = convolution %x, %w, %b {{{attributes}}}\n"
        )


# Name: statements; the result is %y. Per-channel operands are [channels, 1, ...].
TAILS = {
    "none": "  %y = relu %c\n",
    "min": "  %s = mul %c, 2.0\n  %y = amin %s {{dim=[1], keepdim=true}}\n",
    "bias_scale": (
        "  %k = input : {dtype}[{c}{ones}]\n  %m = clamp %c {{max=1.0}}\n"
        "  %a = add %m, %k\n  %y = mul %a, 2.0\n"
    ),
    "min_tanh_tanh": ("  %m = amin %c {{dim=[1], keepdim=true}}\n  %t = tanh %m\n  %y = tanh %t\n"),
    "walk_softmax": "  %m = amin %c {{dim=[2]}}\n  %y = softmax %m {{dim=1}}\n",
    "pool_log_softmax": (
        "  %g = gelu %c\n  %m = mean %g {{dim=[{axes}]}}\n  %y = log_softmax %m {{dim=1}}\n"
    ),
    "softmax": "  %y = softmax %c {{dim=1}}\n",
    "norm": (
        "  %m = mean %c {{dim=[1], keepdim=true}}\n  %d = sub %c, %m\n  %q = square %d\n"
        "  %v = mean %q {{dim=[1], keepdim=true}}\n  %e = add %v, 1e-05\n  %r = rsqrt %e\n"
        "  %y = mul %d, %r\n"
    ),
    "silu_two_outputs": "  %g = silu %c\n  %l = logsumexp %g {{dim=[1]}}\n  %y = mul %g, 3.0\n",
}


def graph_text(anchor: Anchor, tail: str) -> str:
    """A graph in the text form."""
    rank = len(anchor.size)
    body = TAILS[tail].format(
        c=anchor.out_channels,
        dtype=anchor.dtype,
        ones=", 1" * rank,
        axes=", ".join(str(2 + i) for i in range(rank)),
    )
    outputs = "%y, %l" if "%l = " in body else "%y"
    return f"graph g {{\n{anchor.text()}{body}  output {outputs}\n}}\n"


# The four models, at full size.
MODELS = [
    (Anchor(64, 128, (3, 3), (256, 256), batch=64), "min"),
    (Anchor(64, 128, (3, 3), (128, 128), batch=128), "bias_scale"),
    (Anchor(16, 64, (3, 3), (256, 256), batch=128), "min_tanh_tanh"),
    (Anchor(3, 24, (3, 3, 3), (24, 32, 32), batch=128), "walk_softmax"),
]

# What Hopper's families and mma.sync take.
PRODUCTS = [
    (Anchor(32, 48, (3, 3), (40, 56)), "softmax"),
    (Anchor(64, 64, (1, 1), (56, 56), batch=8), "bias_scale"),
    (Anchor(128, 256, (3, 3), (28, 28), batch=16), "none"),
    (Anchor(100, 40, (3, 3), (30, 30), attributes="padding=[1, 1]"), "silu_two_outputs"),
    (Anchor(48, 96, (5, 5), (33, 61), attributes="stride=[2, 2], padding=[2, 2]"), "min"),
    (Anchor(16, 32, (3, 3), (64, 64), attributes="dilation=[2, 2]"), "pool_log_softmax"),
    (Anchor(64, 64, (3, 3), (32, 32), groups=4), "none"),
    (Anchor(4, 16, (3, 3, 3), (16, 24, 24)), "norm"),
    (Anchor(1, 32, (5, 5), (28, 28), batch=64), "none"),
    (Anchor(3, 64, (7, 7), (112, 112), attributes="stride=[2, 2], padding=[3, 3]"), "none"),
    (Anchor(24, 24, (9,), (500,)), "min_tanh_tanh"),
]

# Of so many taps that the ring leaves some to a loop.
MANY_TAPS = [(Anchor(64, 24, (7, 7), (40, 40)), "none")]

# Everything else.
OTHERS = [
    (Anchor(8, 8, (3, 3), (20, 20), groups=8), "none"),
    (Anchor(16, 24, (3, 3), (24, 24), dtype="f64"), "softmax"),
    (Anchor(32, 32, (3, 3), (24, 24), dtype="f16"), "bias_scale"),
    (Anchor(32, 32, (3, 3), (24, 24), dtype="bf16"), "min"),
    (Anchor(5, 1, (3,), (77,)), "none"),
    (Anchor(6, 300, (2, 2), (9, 9)), "pool_log_softmax"),
]

# Without an anchor.
STREAMS = [
    "  %x = input : f32[64, 4096]\n  %k = input : f32[4096]\n  %a = mul %x, %k\n  %y = gelu %a\n",
    "  %x = input : f16[32, 1000]\n  %y = softmax %x {dim=1}\n",
    "  %x = input : f32[16, 64, 28, 28]\n  %y = mean %x {dim=[2, 3]}\n",
    "  %x = input : f32[16, 64, 28, 28]\n  %s = sigmoid %x\n  %y = amax %s {dim=[1]}\n",
    "  %x = input : f64[200, 30]\n  %m = mean %x {dim=[1], keepdim=true}\n  %y = sub %x, %m\n",
    "  %x = input : bf16[8, 128, 30, 30]\n  %z = input : f32[8, 1, 30, 30]\n  %y = add %x, %z\n",
    "  %x = input : f32[8, 16, 50]\n  %y = log_softmax %x {dim=1}\n",
    "  %x = input : f32[1000003]\n  %y = pow %x, 2.5\n",
]


def stream_texts() -> Iterator[str]:
    """Graphs of the streaming strategy."""
    for body in STREAMS:
        yield f"graph g {{\n{body}  output %y\n}}\n"


def anchor_texts(pairs: list[tuple[Anchor, str]]) -> Iterator[str]:
    """Graphs of pairs of an anchor and a tail."""
    for anchor, tail in pairs:
        yield graph_text(anchor, tail)
