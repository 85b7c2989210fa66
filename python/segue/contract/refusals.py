"""Refusals: what the original does not accept, the replacement refuses with the same exception."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from segue.accuracy import tensors

from .compare import Outcome, call, same_form, same_refusal, same_specials
from .point import point
from .subject import Subject, change_images


def _refuse(subject: Subject, inputs: list[Any], where: str, **keywords: Any) -> str:
    eager = call(subject.pair.eager, inputs, **keywords)
    new = call(subject.pair.new, inputs, **keywords)
    if same_refusal(eager, new, where):
        return type(eager.error).__name__
    return _accepted(eager, new, where)


def _accepted(eager: Outcome, new: Outcome, where: str) -> str:
    same_form(eager.result, new.result, where)
    if not any(t.is_meta for t in tensors(eager.result)):
        same_specials(eager.result, new.result, eager.result, where)
    return "accepted by both"


def _changed(name: str, where: str, change: Callable[[Tensor], Any]) -> None:
    @point("refusals", name)
    def test(subject: Subject) -> str:
        return _refuse(subject, change_images(subject.inputs(), change), where)

    test.__doc__ = f"Inputs with {where}."


_changed("one channel too many", "a channel more", lambda x: torch.cat([x, x[:, :1]], dim=1))
_changed("no channels", "no channels", lambda x: x[:, :0])
_changed("one dimension too many", "a dimension more", lambda x: x[None, None])
_changed("one dimension alone", "one dimension", lambda x: x.flatten())
_changed("float64 inputs for float32 parameters", "another dtype", lambda x: x.double())
_changed("half-precision inputs", "half precision", lambda x: x.half())
_changed("integer inputs", "integers", lambda x: x.long())
_changed("complex inputs", "complex numbers", lambda x: x.to(torch.complex64))
_changed("None", "None instead of a tensor", lambda _: None)
_changed("a list of numbers", "a list", lambda x: x.flatten()[:4].tolist())
_changed("a tensor on another device", "a meta tensor", lambda x: x.to("meta"))


@point("refusals", "no arguments")
def nothing(subject: Subject) -> str:
    """A call without inputs."""
    return _refuse(subject, [], "no arguments")


@point("refusals", "one argument too many")
def surplus(subject: Subject) -> str:
    """A call with one input more."""
    return _refuse(subject, [*subject.inputs(), 1.0], "an argument more")


@point("refusals", "an unknown keyword")
def keyword(subject: Subject) -> str:
    """A call with a name that forward does not know."""
    return _refuse(subject, subject.inputs(), "unknown keyword", surely_unknown=1)
