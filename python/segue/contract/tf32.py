"""The class of numbers: what TF32 costs a model, where PyTorch may take it.

PyTorch lets cuDNN compute float32 convolutions in TF32, which rounds both operands to 11 bits, and
cuDNN does so at some sizes and not at others. A replacement may at all sizes: its error is held
against the error of TF32, even where eager happens to be in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from segue.accuracy import tensors, widen

SIGNIFICANT_BITS = 11


class _RoundedOperands(TorchDispatchMode):
    """Convolutions see both operands as TF32 has them."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.ops.aten.convolution.default:
            args = (rounded(args[0]), rounded(args[1]), *args[2:])
        return func(*args, **(kwargs or {}))


def rounded(x: Tensor) -> Tensor:
    """To 11 significant bits, ties to even."""
    fraction, exponent = torch.frexp(x)
    scale = 2.0**SIGNIFICANT_BITS
    return torch.ldexp((fraction * scale).round() / scale, exponent)


def allowed(inputs: Sequence[Any]) -> bool:
    """Whether float32 convolutions of these inputs may be TF32."""
    on_gpu = any(x.is_cuda and x.dtype == torch.float32 for x in tensors(list(inputs)))
    return on_gpu and torch.backends.cudnn.allow_tf32


def reference(module: nn.Module, inputs: Sequence[Any]) -> Any:
    """What `module` computes in float64 from operands of TF32."""
    with torch.no_grad(), _RoundedOperands():
        return copy.deepcopy(module).double()(*widen(list(inputs)))
