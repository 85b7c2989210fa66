"""torch.autocast: what it is set to in a thread, and running under it, or without it, again.

A call under autocast is captured below it: the casts that PyTorch puts in are operators like any
other, and a program is made of them. So an entry fits a call only under the same setting.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

DEVICES = ("cpu", "cuda")
# For each of DEVICES the dtype to cast to, or None where autocast is off.
Setting = tuple[torch.dtype | None, ...]


def _some_enabled() -> bool:
    return any(torch.is_autocast_enabled(device) for device in DEVICES)


# The quicker question; it may say yes for other devices.
enabled = getattr(torch._C, "_is_any_autocast_enabled", _some_enabled)


def setting() -> Setting | None:
    """The setting of this thread; None where autocast is off."""
    if not _some_enabled():
        return None
    return tuple(
        torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        for device in DEVICES
    )


@contextlib.contextmanager
def restored(wanted: Setting | None) -> Iterator[None]:
    """Runs under a setting, as backward passes run what ran under it forward."""
    before = [(torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in DEVICES]
    dtypes = wanted or (None,) * len(DEVICES)
    try:
        with uncached():
            for device, dtype in zip(DEVICES, dtypes, strict=True):
                torch.set_autocast_enabled(device, dtype is not None)
                if dtype is not None:
                    torch.set_autocast_dtype(device, dtype)
            yield
    finally:
        for device, (on, dtype) in zip(DEVICES, before, strict=True):
            torch.set_autocast_enabled(device, on)
            torch.set_autocast_dtype(device, dtype)


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """Lets autocast keep no cast weights: what is captured must show every cast.

    A stand-in kept there would even be handed to others.
    """
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)
        torch.clear_autocast_cache()  # forward() may have switched it on again


disabled = torch._C._DisableAutocast  # a context in which operators run as they are called
