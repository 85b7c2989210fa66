"""What is checked: an original, its replacement, and inputs to try them on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from segue.measure import flops_of
from segue.modelfile import ModelFile, UserError, describe, with_batch

from .point import InapplicableError

# Makes a replacement, with the original's parameter values, for a model and example inputs.
Make = Callable[[nn.Module, Sequence[Any]], nn.Module]

QUICK_FLOPS = 2e9  # a call of the original; larger ones are tried on a smaller image
SMALL_IMAGE = {3: (97,), 4: (45, 51), 5: (11, 13, 17)}  # sides by rank; no two alike


@dataclass
class Pair:
    """An original and its replacement, with the same parameter values and none in common."""

    eager: nn.Module
    new: nn.Module


@dataclass
class Subject:
    """One model under check. Points that change a module ask for a pair of their own."""

    file: ModelFile
    make: Make
    batch: int = 2
    new: ModelFile | None = None  # NEW.py; None when segue.optimize replaces
    whole: bool = False  # whether inputs() has the file's own sizes
    pairs: list[Pair] = field(default_factory=list)  # of several seeds, for points that pool errors

    def fresh_pair(
        self, adapt: Callable[[nn.Module], nn.Module] | None = None, seed: int = 0
    ) -> Pair:
        """A new pair with parameters of a seed; `adapt` changes the original first."""
        eager = self.file.build(seed)
        if adapt is not None:
            eager = adapt(eager)
        inputs = [like(eager, x) if adapt else x for x in self.inputs()]
        return Pair(eager, self.make(copy.deepcopy(eager), inputs))

    @cached_property
    def pair(self) -> Pair:
        """The pair of a point that changes neither module."""
        return self.fresh_pair()

    def forget_pair(self) -> None:
        """The next point starts anew: a replacement may prepare for a limited number of inputs."""
        self.__dict__.pop("pair", None)

    def inputs(self, seed: int = 1) -> list[Any]:
        """Fresh inputs, small enough that a call takes milliseconds unless `whole`."""
        if self.whole:
            return drawn_on(self.file, self.file.device, seed)
        drawn = self.file.inputs(self.batch, seed)
        return [_crop(x) for x in drawn] if self._crops else drawn

    def full_image(self, seed: int = 1) -> list[Any]:
        """One element of the batch at the file's own image size."""
        return self.file.inputs(1, seed)

    @cached_property
    def _crops(self) -> bool:
        eager, drawn = self.file.build(), self.file.inputs(self.batch)
        if flops_of(eager, drawn) > QUICK_FLOPS:
            try:
                with torch.no_grad():
                    eager(*[_crop(x) for x in drawn])
            except Exception:
                return False
            return True
        try:
            with torch.no_grad():
                eager(*drawn)
        except Exception as error:
            what = f"{self.file.path}: Model's forward raised {describe(error, self.file.path)}"
            raise UserError(what) from error
        return False


def drawn_on(file: ModelFile, device: str, seed: int = 1) -> list[Any]:
    """Inputs of the file's own sizes, drawn on a device where the file allows that.

    Large ones take the CPU seconds to draw. On "meta" they take no memory either.
    """
    try:
        with torch.device(device):
            return file.on(device).inputs(seed=seed)
    except UserError:
        return file.inputs(seed=seed)


def like(module: nn.Module, x: Any) -> Any:
    """A tensor where the module's parameters are, a floating one in their dtype."""
    reference = next(module.parameters(), None)
    if reference is None or not isinstance(x, Tensor):
        return x
    return x.to(reference.device, reference.dtype if x.is_floating_point() else x.dtype)


def change_images(inputs: Sequence[Any], change: Callable[[Tensor], Tensor]) -> list[Any]:
    """Applies `change` to every floating tensor with spatial dimensions.

    Without any, to every floating tensor; without those the model has nothing to change.
    """

    def floating(x: Any) -> bool:
        return isinstance(x, Tensor) and x.is_floating_point()

    ranks = [x.dim() for x in inputs if floating(x)]
    if not ranks:
        raise InapplicableError("the model takes no floating tensor")
    least = 3 if max(ranks) >= 3 else 0
    return [change(x) if floating(x) and x.dim() >= least else x for x in inputs]


def batches(inputs: Sequence[Any], batch: int) -> list[Any]:
    """The inputs with another leading dimension."""
    return with_batch(list(inputs), batch)


def _crop(x: Any) -> Any:
    if not isinstance(x, Tensor) or x.dim() not in SMALL_IMAGE:
        return x
    return crop(x, SMALL_IMAGE[x.dim()])


def crop(x: Tensor, sides: Sequence[int]) -> Tensor:
    """The corner of an image with at most these sides, contiguous."""
    for axis, side in enumerate(sides, start=2):
        x = x.narrow(axis, 0, min(side, x.shape[axis]))
    return x.clone(memory_format=torch.contiguous_format)
