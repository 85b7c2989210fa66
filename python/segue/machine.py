"""The machine and the software on it: names, versions, ceilings."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

MM_SIZE = 2048  # operands of 16 MiB: large enough to reach a library's best rate
IMAGE = 130  # 2.4 billion operations
COPY_BYTES = 256 << 20  # past every cache


@dataclass(frozen=True)
class Ceilings:
    """The best rates measured on this machine, with the current number of threads."""

    flops: float  # per second; a multiply and an add count as two
    bandwidth: float  # bytes read plus bytes written per second
    how: str

    def floor_seconds(self, flops: float, bytes_moved: float) -> float:
        """No program can do this work faster: the slower of arithmetic and memory."""
        return max(flops / self.flops, bytes_moved / self.bandwidth)

    def or_better(self, other: Ceilings) -> Ceilings:
        """The better rate of each kind: a busy machine measures its ceilings too low."""
        return Ceilings(
            max(self.flops, other.flops), max(self.bandwidth, other.bandwidth), self.how
        )


def cpu_name() -> str:
    """What the processor calls itself."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def gpu_name(device: int = 0) -> str | None:
    """What a GPU calls itself; None where PyTorch can use none."""
    return torch.cuda.get_device_name(device) if torch.cuda.is_available() else None


def usable_processors() -> int:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float | None:
    """How many threads wanted a processor during the last minute, on average."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def busy() -> str | None:
    """A sentence when others use the machine, to be asked before using it oneself."""
    now, processors = load(), usable_processors()
    if now is None or now <= processors:
        return None
    return (
        f"Other programs keep the machine busy (load average {now:.1f} on {processors} "
        "processors); times taken now say little, least of all those of short calls."
    )


def versions() -> dict[str, str | None]:
    """What a figure depends on besides the machine."""
    return {
        "segue": getattr(sys.modules.get("segue"), "__version__", None),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": str(torch.backends.cudnn.version()) if torch.version.cuda else None,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def commit() -> str | None:
    """The commit of the working tree that this package lies in, "+" when it has changes.

    SEGUE_COMMIT in the environment goes before: trees are copied without their history.
    """
    named = os.environ.get("SEGUE_COMMIT")
    if named:
        return named
    here = Path(__file__).resolve().parent
    if here.parent.name != "python":
        return None
    name = _git(here, "rev-parse", "--short=12", "HEAD")
    if not name:
        return None
    return name + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")


def _git(where: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(where), *words], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def ceilings(size: int = MM_SIZE, image: int = IMAGE, copy_bytes: int = COPY_BYTES) -> Ceilings:
    """Measures the rates, in about a second."""
    source = torch.zeros(copy_bytes // 4)
    target = torch.empty_like(source)
    return Ceilings(
        flops=max(_product_rate(size), *_convolution_rates(image)),
        bandwidth=2.0 * source.numel() * 4 / _fastest(lambda: target.copy_(source)),
        how=(
            f"arithmetic: the best of torch.mm on matrices of {size}x{size} and of a 3x3 "
            "convolution from 64 to 128 channels by PyTorch and by Segue, all fp32, in place of "
            "the peak of fused multiply-adds, which is a little higher; memory: the best of "
            "torch's copy, bytes read plus bytes written"
        ),
    )


def _product_rate(size: int) -> float:
    a, b, product = torch.rand(size, size), torch.rand(size, size), torch.empty(size, size)
    return 2.0 * size**3 / _fastest(lambda: torch.mm(a, b, out=product))


def _convolution_rates(image: int) -> list[float]:
    """A library's product may leave half of a machine unused; these may come nearer the peak."""
    import segue  # noqa: PLC0415  (whoever asks for the rest of this module may do without)

    module = nn.Sequential(nn.Conv2d(64, 128, 3), nn.ReLU()).requires_grad_(False)
    x = torch.rand(1, 64, image, image)
    flops = 2.0 * 64 * 128 * 9 * (image - 2) ** 2
    fused = segue.optimize(module, x, fallback="silent")
    return [flops / _fastest(partial(f, x)) for f in (module, fused)]


def _fastest(run: Callable[[], object], tries: int = 8) -> float:
    run()
    best = float("inf")
    for _ in range(tries):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def resident_bytes() -> int | None:
    """Memory of this process that is resident now; None where the system does not say."""
    return _status_field("VmRSS")


def peak_resident_bytes() -> int | None:
    """The most that was resident since `reset_peak`."""
    return _status_field("VmHWM")


def reset_peak() -> bool:
    """Hands freed memory back and makes the present the peak; False where that is impossible."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _status_field(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith(f"{name}:")), None)
    return int(found.split()[1]) * 1024 if found else None
