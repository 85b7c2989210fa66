"""Gradients: the fused program forward, the original operators backward.

A program leaves no intermediate values behind, so backward runs the original forward() again,
with autograd watching, and differentiates that. The result is eager PyTorch's own gradient, to
any order. Running forward() again costs more than the program saved, so that once a backward has
come, calls that need gradients run the original at once (see `Runtime.gradient`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# Takes and returns tensors. Called with gradients on, it connects results to the tensors that need
# them; these are leaves of which nothing else depends on another.
Function = Callable[..., Sequence[Tensor | None]]


class Recompute(torch.autograd.Function):
    """apply(function, first, live, *tensors): function(*tensors), recomputed for its gradient.

    first: called without arguments for the first results instead of function, or None. live: for
    each tensor, whether function reads the object itself (a parameter) and not what it is given.
    """

    @staticmethod
    def forward(
        ctx: Any,
        function: Function,
        first: Callable[[], Sequence[Tensor]] | None,
        live: Sequence[bool],
        constant: Sequence[bool],
        *tensors: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        """Runs first, or function on detached tensors."""
        ctx.function = function
        ctx.live = live
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        results = tuple(function(*_cleaned(tensors, live)) if first is None else first())
        ctx.mark_non_differentiable(
            *(x for x, c in zip(results, constant, strict=False) if c and x is not None)
        )
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        """Gradients of the tensors that need one."""
        tensors = ctx.saved_tensors
        needs = ctx.needs_input_grad[4:]
        function = _transposed(ctx.function, ctx.live, needs, len(gradients))
        live = [False] * len(gradients) + list(ctx.live)
        if torch.is_grad_enabled():
            results = Recompute.apply(function, None, live, (), *gradients, *tensors)
        else:
            results = function(*_cleaned((*gradients, *tensors), live))
        found = iter(results)
        return (None, None, None, None, *(next(found) if need else None for need in needs))


def _cleaned(tensors: Sequence[Tensor | None], live: Sequence[bool]) -> list[Tensor | None]:
    """Tensors without the history of how they came about."""
    return [
        x if x is None or is_live else x.detach() for x, is_live in zip(tensors, live, strict=True)
    ]


def _transposed(
    function: Function, live: Sequence[bool], needs: Sequence[bool], count: int
) -> Function:
    """The gradients of function, as a function of its results' count gradients and its tensors."""

    def run(*given: Tensor | None) -> Sequence[Tensor | None]:
        gradients, tensors = given[:count], given[count:]
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            inner: list[Tensor | None] = []
            for x, is_live, need in zip(tensors, live, needs, strict=True):
                if x is None or is_live:
                    inner.append(x)
                elif x.requires_grad:
                    inner.append(x.view_as(x))  # a place to stop at, connected to the leaf
                else:
                    inner.append(x.detach().requires_grad_() if need else x)
            results = function(*inner)
            pairs = [
                (r, g)
                for r, g in zip(results, gradients, strict=True)
                if r is not None and g is not None and r.requires_grad
            ]
            wanted = [x for x, need in zip(inner, needs, strict=True) if need and x is not None]
            if not pairs:
                return [None] * len(wanted)
            return torch.autograd.grad(
                [r for r, _ in pairs],
                wanted,
                [g for _, g in pairs],
                create_graph=differentiable,
                allow_unused=True,
            )

    return run
