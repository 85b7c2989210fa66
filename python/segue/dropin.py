"""The drop-in: a module whose class is a subclass of the original's.

Its forward() runs Segue's programs.
The copy is shallow. Parameters, buffers, submodules and hooks are the original's own objects, so
`state_dict`, `to`, `train`, optimizers and parameter sharing go on as before, and the original
forward() is one `super()` away. Whatever is in doubt runs there.
"""

from __future__ import annotations

import copyreg
import functools
import threading
import types
import warnings
from typing import Any

import torch
from torch import nn

from . import _core
from . import precision as classes
from .prepare import DropIn, Runtime, SegueWarning, Unprepared, base_of
from .programs import Options
from .state import RUNTIME

FALLBACKS = ("warn", "error", "silent")


def optimize(
    module: nn.Module,
    *example_inputs: Any,
    precision: str = "match",
    fallback: str = "warn",
    tune: bool = False,
    **example_kwargs: Any,
) -> nn.Module:
    """A drop-in for module: the same results, attributes and gradients, faster.

    With example inputs, programs for their signature are prepared at once; for others, or without
    examples, at the first call that needs them. What Segue cannot make faster runs through
    PyTorch: fallback="warn" says so once by a SegueWarning when that is all of it, "silent" does
    not, "error" raises NotApplicable. precision="match": the numbers are as good as PyTorch's own;
    on GPUs, where float32 convolutions may take operands of 11 bits, in the class that PyTorch uses
    for the convolution at hand, rounding included. "fp32", "tf32" (halves rounded away from zero),
    "tf32_even" and "plain_tf32" (as tf32, but no operand is carried in halves) name a class
    instead, and so does segue.use_precision for the calls inside it; on the CPU all is float32.
    torch.autocast is followed: under it the numbers are those of its dtype.
    tune=True measures the candidate plans of every program it prepares, which takes a second or so,
    and remembers the best in the cache folder for later processes.

    The drop-in shares parameters, buffers and submodules with module, which stays as it is.
    TypeError when module is no nn.Module, ValueError for an unknown precision or fallback.
    """
    classes.accepted(precision)
    if fallback not in FALLBACKS:
        raise ValueError(f"fallback {fallback!r} is unknown; accepted: {', '.join(FALLBACKS)}")
    made = make_dropin(module, Options(tune=tune, precision=precision), fallback)
    if made is not module and (example_inputs or example_kwargs):
        runtime: Runtime = made.__dict__[RUNTIME]
        runtime.prepare_for(made, example_inputs, example_kwargs)
    return made


def make_dropin(module: nn.Module, options: Options, fallback: str) -> nn.Module:
    """A drop-in for which nothing is prepared; the module itself where its class refuses."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"optimize takes a torch.nn.Module, not a {type(module).__name__}")
    reason = _refusal(module)
    if reason:
        message = f"{type(module).__name__} runs through PyTorch: {reason}"
        if fallback == "error":
            raise _core.NotApplicable(message)
        if fallback == "warn":
            warnings.warn(message, SegueWarning, stacklevel=3)
        return module
    cls = dropin_class(base_of(module))
    made: nn.Module = object.__new__(cls)
    made.__dict__.update(module.__dict__)
    made.__dict__[RUNTIME] = Runtime(made, options, fallback)
    return made


def _refusal(module: nn.Module) -> str:
    if isinstance(module, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        return "it is compiled by TorchScript"
    if "forward" in module.__dict__:
        return "its forward is an attribute of the object, not of its class"
    if getattr(type(module), "__slots__", None):
        return "its class has slots, which a copy would not share"
    return ""


# ---- the class ---------------------------------------------------------------------------------

_classes: dict[type, type] = {}
_classes_lock = threading.Lock()


def dropin_class(base: type) -> type:
    """The subclass of base whose forward() runs Segue's programs; one for each base."""
    with _classes_lock:
        made = _classes.get(base)
        if made is None:
            made = _classes[base] = _make_class(base)
        return made


def _make_class(base: type) -> type:
    miss, original = _core.MISS, _core.ORIGINAL
    is_compiling = torch.compiler.is_compiling

    @functools.wraps(base.forward)  # type: ignore[attr-defined]
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_compiling():
            runtime = self.__dict__.get(RUNTIME)
            if runtime is not None:
                result = runtime.run(self, args, kwargs)
                if result is miss:
                    result = _missed(self, runtime, args, kwargs)
                if result is not original:
                    return result
        return base.forward(self, *args, **kwargs)  # type: ignore[attr-defined]

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        # What nn.Module.__call__ does where nothing is hooked in, without its frames.
        own = self.__dict__
        runtime = own.get(RUNTIME)
        if runtime is not None and not (_hooked(own) or is_compiling()):
            result = runtime.run(self, args, kwargs)
            if result is not miss and result is not original:
                return result
        return base.__call__(self, *args, **kwargs)

    def reduce(self: Any, protocol: Any) -> Any:
        made = base.__reduce_ex__(self, protocol)  # type: ignore[call-arg]
        if not isinstance(made, tuple) or made[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return made  # the class has a way of its own to be copied
        return (_rebuild, (base, *made[1][1:]), *made[2:])

    def body(namespace: dict[str, Any]) -> None:
        namespace["forward"] = forward
        if base.__call__ is nn.Module.__call__:
            namespace["__call__"] = call
        namespace["__reduce_ex__"] = reduce
        namespace["__module__"] = base.__module__
        namespace["__qualname__"] = base.__qualname__
        namespace["__doc__"] = base.__doc__

    return types.new_class(base.__name__, (base, DropIn), exec_body=body)


_hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_global_hooks = [getattr(nn.modules.module, f"_global{name}") for name in _hooks]
_forward, _forward_pre, _backward, _backward_pre = _global_hooks


def _hooked(own: dict[str, Any]) -> bool:
    """Whether nn.Module's call of a module with this dictionary does more than call forward()."""
    return bool(
        own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or _forward
        or _forward_pre
        or _backward
        or _backward_pre
        or "_compiled_call_impl" in own
    )


def _missed(module: Any, runtime: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Nothing is prepared for this call, or the module is a copy of the one it was prepared for."""
    if not runtime.owns(module):
        runtime = Runtime(module, runtime.options, runtime.fallback)
        module.__dict__[RUNTIME] = runtime
    if runtime.calls.busy():
        return _core.ORIGINAL
    return runtime.first_call(module, args, kwargs)


def _rebuild(base: type, *args: Any) -> Any:
    """An empty drop-in, to be filled by unpickling."""
    cls: Any = dropin_class(base)
    return cls.__new__(cls, *args)


__all__ = ["DropIn", "SegueWarning", "Unprepared", "make_dropin", "optimize"]
