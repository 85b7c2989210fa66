"""Sizes: any batch, any image."""

from __future__ import annotations

import torch
from torch import Tensor

from .compare import agree, call, same_strides
from .point import point
from .subject import Subject, batches, change_images, crop


def _try(subject: Subject, inputs: list[object], where: str) -> str:
    said = agree(subject.pair, inputs, where)
    eager, new = call(subject.pair.eager, inputs), call(subject.pair.new, inputs)
    if eager.error is None:
        same_strides(eager.result, new.result, where)
    return said


@point("sizes", "an empty batch")
def empty(subject: Subject) -> str:
    """No elements in, no elements out, the same sizes beside."""
    return _try(subject, batches(subject.inputs(), 0), "empty batch")


@point("sizes", "a batch of one, and of five")
def other_batches(subject: Subject) -> str:
    """Sizes that the replacement was not made for."""
    _try(subject, batches(subject.inputs(31), 1), "batch of 1")
    return _try(subject, batches(subject.inputs(31), 5), "batch of 5")


@point("sizes", "no batch dimension")
def unbatched(subject: Subject) -> str:
    """PyTorch's convolutions take a single image too."""
    return _try(subject, change_images(subject.inputs(32), lambda x: x[0]), "single image")


@point("sizes", "smaller and larger images")
def images(subject: Subject) -> str:
    """Each side by its own amount; the model may refuse, then both must."""

    def smaller(x: Tensor) -> Tensor:
        cuts = [max(1, n - 3 - 2 * i) for i, n in enumerate(x.shape[2:])]
        return crop(x, cuts)

    def larger(x: Tensor) -> Tensor:
        for axis in range(2, x.dim()):
            x = torch.cat([x, x.narrow(axis, 0, min(axis + 1, x.shape[axis]))], dim=axis)
        return x

    _try(subject, change_images(subject.inputs(33), smaller), "smaller image")
    return _try(subject, change_images(subject.inputs(33), larger), "larger image")


@point("sizes", "images from one pixel up")
def tiny(subject: Subject) -> str:
    """Sides of 1 to 6: where the original refuses, the replacement must."""

    def cut(side: int) -> list[object]:
        return change_images(subject.inputs(34), lambda x: crop(x, [side] * (x.dim() - 2)))

    said = [_try(subject, cut(side), f"side {side}") for side in range(1, 7)]
    return f"{sum('refused' in s for s in said)} of 6 refused as by the original"
