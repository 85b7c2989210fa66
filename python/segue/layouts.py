"""Remembers how PyTorch lays out the results of operators, in this process and for the next.

For all operators but those whose result's shape depends on data (which capture refuses), sizes,
strides and dtypes of the results follow from the operator, those of its operands, and its other
arguments; strides may also depend on PyTorch's version, its kernels for this processor and whether
oneDNN and cuDNN are on. With all of these in the key, an answer given once holds for ever. Where
every operator of a module is known, capturing it needs no run on real data.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from . import cache
from .trace import Event, Layout, StandIn

ENTRIES_MAX = 4096


def key_of(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    """Everything that decides the results' layouts, hashed."""

    def described(leaf: Any) -> str:
        if isinstance(leaf, StandIn):
            return f"{leaf.dtype}{tuple(leaf.shape)}{leaf.stride()}{leaf.get_device()}"
        return repr(leaf)

    leaves, spec = pytree.tree_flatten((list(args), kwargs))
    words = (
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        str(torch._C._get_mkldnn_enabled()),
        str(torch._C._get_cudnn_enabled()),
        str(func),
        str(spec),
        *map(described, leaves),
    )
    return hashlib.blake2b("|".join(words).encode(), digest_size=16).hexdigest()


class Memory:
    """Layouts of results by key; the file is read at first use and written by `save`."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._loaded = False
        self._changed = False
        self._lock = threading.Lock()

    def get(self, func: Any, key: str) -> Event | None:
        """What func gave before for this key."""
        if not self._loaded:
            self._load()
        try:
            layouts, sequence, other = self._known[key]
            read = [x and _read(x) for x in layouts]
            return Event(func, read, {"": None, "list": list, "tuple": tuple}[sequence], other)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError):
            return None  # not known, or a damaged file

    def put(self, event: Event, key: str) -> None:
        """Remembers what an operator gave."""
        if key in self._known:
            return
        layouts = [x and _written(x) for x in event.layouts]
        sequence = event.sequence.__name__ if event.sequence in (list, tuple) else ""
        if event.sequence is None or sequence:
            self._known[key] = (layouts, sequence, event.other)
            self._changed = True

    def save(self) -> None:
        """Writes what is new, together with what other processes wrote."""
        with self._lock:
            if not self._changed:
                return
            self._load()
            self._changed = False
            newest = dict(list(self._known.items())[-ENTRIES_MAX:])
            cache.write(cache.layouts_file(), json.dumps(newest))

    def forget(self) -> None:
        """Forgets everything; the file stays."""
        self._known, self._loaded, self._changed = {}, True, False

    def _load(self) -> None:
        self._loaded = True
        with contextlib.suppress(OSError, ValueError):
            read = json.loads(cache.layouts_file().read_text(encoding="utf-8"))
            if isinstance(read, dict):
                self._known = {**read, **self._known}


def _written(layout: Layout) -> list[Any]:
    shape, stride, dtype, device = layout
    return [list(shape), list(stride), str(dtype).split(".")[-1], device]


def _read(written: Any) -> Layout:
    shape, stride, dtype, device = written
    return torch.Size(shape), tuple(stride), getattr(torch, dtype), int(device)


memory = Memory()
