"""What PyTorch's own operators take on a GPU: the figures behind src/plan/cuda/host.c.

Prints one line per convolution (seconds with TF32 allowed, without it, and channels last) and one
per size of a few other operators. Medians of runs with a flushed L2; needs a CUDA device.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import torch

ROUNDS = 5
CASES = 110
FLUSH_BYTES = 640 << 20
LARGEST_RESULT = 3e8  # elements
MOST_PRODUCTS = 3e11


@dataclass(frozen=True)
class Convolution:
    """A convolution and its input."""

    batch: int
    channels: int
    out: int
    image: tuple[int, ...]
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    @property
    def pixels(self) -> list[int]:
        """Sizes of the result's image."""
        reach = (self.kernel - 1) * self.dilation
        return [(size + 2 * self.padding - reach - 1) // self.stride + 1 for size in self.image]

    @property
    def flops(self) -> float:
        """Multiplications and additions."""
        taps = self.kernel ** len(self.image)
        return 2 * self.batch * prod(self.pixels) * self.out * self.channels // self.groups * taps


FIXED = [
    Convolution(64, 64, 128, (256, 256), 3),
    Convolution(128, 64, 128, (128, 128), 3),
    Convolution(128, 16, 64, (256, 256), 3),
    Convolution(128, 3, 24, (24, 32, 32), 3),
    Convolution(64, 64, 64, (56, 56), 3, padding=1),
    Convolution(64, 256, 256, (14, 14), 3, padding=1),
    Convolution(64, 512, 512, (7, 7), 3, padding=1),
    Convolution(64, 64, 256, (56, 56), 1),
    Convolution(64, 256, 64, (56, 56), 1),
    Convolution(64, 3, 64, (224, 224), 7, stride=2, padding=3),
]


def draw(rng: random.Random) -> Iterator[Convolution]:
    """Random convolutions that fit the card."""
    while True:
        dims = rng.choice([1, 2, 2, 2, 2, 3])
        channels = rng.choice([1, 3, 4, 8, 16, 24, 32, 48, 64, 96, 128, 200, 256])
        out, groups = rng.choice([1, 8, 16, 24, 32, 64, 96, 128, 200, 256]), 1
        if rng.random() < 0.15:
            out = groups = channels
        elif rng.random() < 0.1 and channels % 4 == 0 and out % 4 == 0:
            groups = 4
        kernel = rng.choice([1, 3, 3, 3, 5, 7]) if dims < 3 else rng.choice([1, 3])
        stride, dilation = rng.choice([1, 1, 1, 2]), rng.choice([1, 1, 1, 2])
        side = rng.choice([7, 14, 30, 56, 128, 224])
        image = {
            1: (rng.choice([128, 1000, 16384]),),
            2: (side, side),
            3: (rng.choice([8, 16]), *[rng.choice([16, 32])] * 2),
        }[dims]
        case = Convolution(
            rng.choice([1, 4, 16, 64]),
            channels,
            out,
            image,
            kernel,
            stride,
            rng.choice([0, kernel // 2]),
            dilation,
            groups,
        )
        result = case.batch * out * prod(case.pixels)
        if min(case.pixels) > 0 and result < LARGEST_RESULT and case.flops < 2 * MOST_PRODUCTS:
            yield case


def microseconds(run: Callable[[], object], flush: torch.Tensor) -> float:
    """Median over rounds, each after a flush of the cache."""
    run()
    run()
    times = []
    for _ in range(ROUNDS):
        flush.zero_()
        start = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    return sorted(times)[ROUNDS // 2]


def time_convolution(case: Convolution, flush: torch.Tensor) -> str:
    """One line of the table."""
    dims = len(case.image)
    x = torch.rand(case.batch, case.channels, *case.image, device="cuda")
    module = getattr(torch.nn, f"Conv{dims}d")(
        case.channels,
        case.out,
        case.kernel,
        case.stride,
        case.padding,
        case.dilation,
        case.groups,
    ).cuda()
    times = []
    for allowed in (True, False):
        torch.backends.cudnn.allow_tf32 = allowed
        times.append(microseconds(lambda: module(x), flush))
    torch.backends.cudnn.allow_tf32 = True
    if dims > 1:
        order = torch.channels_last if dims == 2 else torch.channels_last_3d
        last = module.to(memory_format=order)
        turned = x.to(memory_format=order)
        times.append(microseconds(lambda: last(turned), flush))
    return f"{case}: {case.flops / 1e9:.2f} Gflop, " + " ".join(f"{t:.1f}" for t in times) + " us"


def main() -> None:
    """Prints the table."""
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    drawn = draw(random.Random(1))
    print(torch.cuda.get_device_name(), torch.__version__, torch.backends.cudnn.version())
    with torch.no_grad():
        for case in FIXED + [next(drawn) for _ in range(CASES - len(FIXED))]:
            print(time_convolution(case, flush), flush=True)
        for bits in range(12, 30, 2):
            x = torch.rand(64, 1 << (bits - 6), device="cuda")
            for name in ("tanh", "square", "amin", "softmax"):
                operator = getattr(torch, name)
                dim = () if name in ("tanh", "square") else (0,)
                time = microseconds(lambda o=operator, x=x, d=dim: o(x, *d), flush)  # type: ignore[misc]
                print(f"{name} {list(x.shape)}: {time:.1f} us", flush=True)


if __name__ == "__main__":
    main()
