"""What Segue needs of a machine with NVIDIA GPUs beside PyTorch: where NVRTC lies, which stream."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path
from typing import Any

import torch

from . import _core

# The address of a device's current stream; None where this PyTorch knows no GPUs.
raw_stream: Any = getattr(torch._C, "_cuda_getCurrentRawStream", None)
_guards = getattr(getattr(torch._C, "_dynamo", None), "guards", None)
# What segue._core.Calls asks of PyTorch, in its order. The third makes tensors on the current
# device, in half the time of torch.empty_strided.
FUNCTIONS = (
    raw_stream,
    getattr(torch._C, "_cuda_getDevice", None),
    getattr(_guards, "_empty_strided_cuda", None) if raw_stream else None,
    getattr(torch._C, "_cuda_isCurrentStreamCapturing", None),
)

ALIGNMENT = 16  # bytes, of every first element that PyTorch itself allocates


@functools.cache
def find_nvrtc() -> str | None:
    """The NVRTC that came with PyTorch, newest first; None: wherever the loader finds one."""
    found = [
        path
        for folder in _folders()
        for path in folder.glob("libnvrtc.so*")
        if re.fullmatch(r"libnvrtc\.so[.\d]*", path.name)
    ]
    wanted = (torch.version.cuda or "").split(".")[0]
    return max(map(str, found), key=lambda p: (_major(p) == wanted, _major(p), p), default=None)


def _folders() -> list[Path]:
    """Where PyTorch's packages keep libraries."""
    folders = [Path(torch.__file__).parent / "lib"]
    spec = importlib.util.find_spec("nvidia")
    for base in (spec.submodule_search_locations or []) if spec else []:
        folders += sorted(Path(base).glob("*/lib"))
    return folders


def _major(path: str) -> str:
    match = re.search(r"\.so\.(\d+)", path)
    return match.group(1) if match else ""


@functools.cache
def use_nvrtc() -> None:
    """Tells the library where NVRTC lies."""
    path = find_nvrtc()
    if path:
        _core.set_nvrtc(path)


def capturing() -> bool:
    """Whether the current stream's work is being captured into a CUDA graph."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def aligned(tensors: Any) -> bool:
    """Whether the first element of every tensor on a GPU is aligned as PyTorch's allocations are.

    The check before every call, in C, computes the same.
    """
    return all(x.data_ptr() % ALIGNMENT == 0 for x in tensors if x.is_cuda)
