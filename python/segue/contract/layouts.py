"""Layouts: strides of results, and inputs that are not contiguous."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .compare import agree, call, detached, same_form, same_strides
from .point import InapplicableError, demand, point
from .subject import Pair, Subject, change_images


def _form(pair: Pair, inputs: list[object], where: str) -> None:
    eager, new = call(pair.eager, detached(inputs)), call(pair.new, detached(inputs))
    if eager.error is None and new.error is None:
        same_form(eager.result, new.result, where)
        same_strides(eager.result, new.result, where)


def _lay(subject: Subject, change: Callable[[Tensor], Tensor], where: str) -> str:
    """Values and strides for inputs in another layout."""
    plain = subject.inputs(21)
    inputs = change_images(plain, change)
    said = agree(subject.pair, inputs, where)
    _form(subject.pair, inputs, where)
    return said


@point("layout", "shape, dtype, device and strides of the result")
def plain(subject: Subject) -> str:
    """For contiguous inputs."""
    _form(subject.pair, subject.inputs(), "contiguous input")
    result = call(subject.pair.eager, subject.inputs()).result
    return ", ".join(f"{tuple(t.shape)} by {t.stride()}" for t in [result] if isinstance(t, Tensor))


@point("layout", "channels-last inputs")
def channels_last(subject: Subject) -> str:
    """Results then have the strides that the original gives them."""

    def change(x: Tensor) -> Tensor:
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        if x.dim() not in formats:
            raise InapplicableError("no input has two or three spatial dimensions")
        return x.to(memory_format=formats[x.dim()])

    return _lay(subject, change, "channels last")


@point("layout", "a channels-last model")
def channels_last_model(subject: Subject) -> str:
    """`.to(memory_format=torch.channels_last)` before the replacement is made."""
    ranks = {p.dim() for p in subject.pair.eager.parameters()}
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    found = next((formats[r] for r in (4, 5) if r in ranks), None)
    if found is None:
        raise InapplicableError("no parameter has two or three spatial dimensions")
    try:
        pair = subject.fresh_pair(lambda m: m.to(memory_format=found))  # type: ignore[call-overload]
    except RuntimeError as error:
        raise InapplicableError(f"PyTorch does not convert the model: {error}") from None
    _form(pair, subject.inputs(), "channels-last weights")
    return agree(pair, subject.inputs(), "channels-last weights")


@point("layout", "transposed inputs")
def transposed(subject: Subject) -> str:
    """The last two dimensions lie the other way round in memory."""
    return _lay(subject, lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2), "transposed")


@point("layout", "inputs with a stride of two")
def strided(subject: Subject) -> str:
    """Every other element of a wider tensor, the others NaN."""

    def change(x: Tensor) -> Tensor:
        wide = x.new_full((*x.shape[:-1], 2 * x.shape[-1]), float("nan"))
        wide[..., ::2] = x
        return wide[..., ::2]

    return _lay(subject, change, "stride of two")


@point("layout", "a window of a larger image")
def window(subject: Subject) -> str:
    """Rows longer than the image, at an odd offset, surrounded by NaN."""

    def change(x: Tensor) -> Tensor:
        wide = torch.full(
            (*x.shape[:-1], x.shape[-1] + 4), float("nan"), dtype=x.dtype, device=x.device
        )
        wide[..., 1:-3] = x
        return wide[..., 1:-3]

    return _lay(subject, change, "window")


@point("layout", "a slice of channels")
def channel_slice(subject: Subject) -> str:
    """Some channels of a tensor that has more."""

    def change(x: Tensor) -> Tensor:
        if x.dim() < 2:
            raise InapplicableError("no input has channels")
        hole = torch.full_like(x[:, :1], float("nan"))
        return torch.cat([hole, x, hole], dim=1)[:, 1:-1]

    return _lay(subject, change, "slice of channels")


@point("layout", "expanded inputs (stride 0)")
def expanded(subject: Subject) -> str:
    """The batch, then the channels, repeated without copying."""
    _lay(subject, lambda x: x[:1].expand_as(x), "expanded batch")
    return _lay(
        subject, lambda x: (x[:, :1] if x.dim() > 1 else x[:1]).expand_as(x), "expanded channels"
    )


@point("layout", "parameters that are views")
def parameter_views(subject: Subject) -> str:
    """Each parameter's memory replaced by a strided view of a larger tensor."""
    pair = subject.fresh_pair()
    changed = 0
    for module in (pair.eager, pair.new):
        for p in module.parameters():
            if p.dim():
                wide = p.detach().new_full((*p.shape[:-1], 2 * p.shape[-1]), float("nan"))
                wide[..., ::2] = p.detach()
                p.data = wide[..., ::2]
                changed += 1
    if not changed:
        raise InapplicableError("the model has no parameters")
    demand(
        all(not p.is_contiguous() for p in pair.new.parameters() if p.dim() and p.numel() > 1),
        "parameters could not be replaced",
    )
    return agree(pair, subject.inputs(), "strided parameters")
