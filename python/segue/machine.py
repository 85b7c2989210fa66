"""The machine and the software on it: names, versions, ceilings."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

MM_SIZE = 2048  # operands of 16 MiB: large enough to reach a library's best rate
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


def versions() -> dict[str, str | None]:
    """What a figure depends on besides the machine."""
    return {
        "segue": getattr(sys.modules.get("segue"), "__version__", None),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def commit() -> str | None:
    """The commit of the working tree that this package lies in, "+" when it has changes."""
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


def ceilings(size: int = MM_SIZE, copy_bytes: int = COPY_BYTES) -> Ceilings:
    """Measures the rates, in about a second."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    product = torch.empty(size, size)
    source = torch.zeros(copy_bytes // 4)
    target = torch.empty_like(source)
    fastest_product = _fastest(lambda: torch.mm(a, b, out=product))
    fastest_copy = _fastest(lambda: target.copy_(source))
    return Ceilings(
        flops=2.0 * size**3 / fastest_product,
        bandwidth=2.0 * source.numel() * 4 / fastest_copy,
        how=(
            f"arithmetic: the best of torch.mm on fp32 matrices of {size}x{size} (a proxy for the "
            "peak of fused multiply-adds); memory: the best of torch's copy, bytes read plus bytes "
            "written"
        ),
    )


def _fastest(run: object, tries: int = 8) -> float:
    assert callable(run)
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
