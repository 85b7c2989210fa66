"""What Segue prepares for one drop-in, signature by signature, and its gradients."""

from __future__ import annotations

import dataclasses
import threading
import time
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils import _pytree as pytree
from torch.utils._device import DeviceContext

from . import _core, autocast, cuda, precision
from .capture import capture
from .gradients import Recompute
from .programs import Options
from .runtime import Plan, make_plan, workspace_of
from .state import ModuleState
from .trace import NotCapturedError, layout_of

ENTRIES_MAX = 16
# Captures that are free; beyond these they may take this share of the time since the first.
CAPTURES_FREE, CAPTURE_SHARE = 32, 0.02


Place = tuple[int, bool, tuple[Any, ...] | None, Any] | None


class SegueWarning(UserWarning):
    """A module that is left to PyTorch."""


class DropIn:
    """Marks the classes of drop-ins."""


def base_of(module: nn.Module) -> type:
    """The class of the original."""
    cls = type(module)
    return cls.__mro__[1] if isinstance(module, DropIn) else cls


def _original(module: nn.Module) -> Any:
    """The original's forward, to be called with the module."""
    return base_of(module).forward  # type: ignore[attr-defined]


def _make_check(tensors: tuple[Tensor, ...]) -> Callable[..., bool] | None:
    """PyTorch's own check, made for Dynamo, that as many tensors are laid out as these are.

    None where this PyTorch has none or it cannot be made of them.
    """
    try:
        make: Any = torch._C._dynamo.guards.TensorGuards
        guards = make(
            *tensors,
            dynamic_dims_sizes=[list(x.shape) for x in tensors],
            dynamic_dims_strides=[list(x.stride()) for x in tensors],
        )
        check: Callable[..., bool] = guards.check
        return check if check(*tensors) else None
    except Exception:  # whatever a private function may raise in another version
        return None


def _predicates() -> tuple[Any, ...]:
    """Functions that are true while calls must not be short-cut: modes, transforms, tracing.

    A pair: both must be, the first being the quicker.
    """
    functorch = torch._C._functorch
    return (
        torch._C._len_torch_dispatch_stack,
        (torch._C._len_torch_function_stack, _watched),
        functorch.peek_interpreter_stack,
        torch._C._get_tracing_state,
        lambda: forward_ad._current_level >= 0,
    )


def _watched() -> bool:
    """Whether a mode sees functions of torch other than to choose a default device."""
    at = getattr(torch._C, "_get_function_stack_at", None)
    count: int = torch._C._len_torch_function_stack()
    return at is None or any(type(at(i)) is not DeviceContext for i in range(count))


# What a thread may set for the calls it makes: an entry fits those under the same alone.
SETTINGS = ((autocast.enabled, autocast.setting), (None, precision.named))


class Unprepared:
    """Stands for a Runtime in a copy of a drop-in until its first call."""

    def __init__(self, options: Options, fallback: str) -> None:
        self.options = options
        self.fallback = fallback

    def owns(self, _: nn.Module) -> bool:
        """A Runtime is to be made."""
        return False

    def run(self, *_: Any) -> Any:
        """Nothing is prepared."""
        return _core.MISS


class Runtime:
    """What Segue prepared for one drop-in."""

    def __init__(self, module: nn.Module, options: Options, fallback: str) -> None:
        self.options = options
        self.fallback = fallback
        self._owner = weakref.ref(module)
        self.calls = _core.Calls(
            module,
            Tensor,
            nn.Parameter,
            _predicates(),
            torch.is_grad_enabled,
            torch.get_num_threads,
            torch.empty_strided,
            cuda.FUNCTIONS,
            precision.SWITCHES,
            SETTINGS,
            _make_check,
            ENTRIES_MAX,
        )
        self.run = self.calls.run
        self.last: Plan | None = None
        self.reason = ""  # why the last signature runs through PyTorch
        self._lock = threading.RLock()
        self._warned = False
        self._ever_ran = False  # whether any signature runs Segue's programs
        self._captures = 0
        self._spent = 0.0
        self._began = time.monotonic()
        self._trains = False  # a backward has come
        self._differentiable: OrderedDict[Any, tuple[bool, ...]] = OrderedDict()

    def owns(self, module: nn.Module) -> bool:
        """False for a module that took another's attributes over, as replicas do."""
        return self._owner() is module

    def __reduce__(self) -> Any:
        """Programs are not copied: they are made again when needed."""
        return Unprepared, (self.options, self.fallback)

    # ---- preparing -----------------------------------------------------------------------------

    def first_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call of a signature that nothing is prepared for: prepares it and runs it."""
        with self._lock:
            result = self.calls.run(module, args, kwargs)  # another thread may have come first
            if result is not _core.MISS:
                return result
            if not self._may_capture() or self._in_a_graph(module):
                return _core.ORIGINAL
            result = self._prepare(module, args, kwargs)
        # The program's own result, though PyTorch's is there: equal calls give equal bits.
        again = self.calls.run(module, args, kwargs)
        if again is not _core.MISS and again is not _core.ORIGINAL:
            return again
        return _core.ORIGINAL if torch.is_grad_enabled() else result

    def prepare_for(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Prepares for arguments that no call has brought yet."""
        with self._lock, torch.no_grad():
            if self.calls.busy():
                self.reason = "a tracing or transform mode is on"
            elif self.calls.run(module, args, kwargs) is _core.MISS:
                self._prepare(module, args, kwargs)
                return
            else:
                self.reason = "an argument is no plain tensor, number, string or None"
            self._complain(module)

    def _prepare(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Adds an entry for these arguments. Returns the original's result, or ORIGINAL."""
        began = time.monotonic()
        names, flat = tuple(kwargs), [*args, *kwargs.values()]
        result: Any = _core.ORIGINAL
        plan: Plan | None = None
        refused = False
        try:
            found, real = capture(_original(module), module, args, kwargs)
            result = _core.ORIGINAL if real is None else real
            arguments_aligned = cuda.aligned(x for x in flat if isinstance(x, Tensor))
            options = _named(self.options, precision.named())
            plan = make_plan(found, type(module).__name__, options, arguments_aligned)
            guard = found.guard
            self.last = plan
            self.reason = "" if plan.runs else _reasons(plan)
            self._ever_ran = self._ever_ran or plan.runs
        except (NotCapturedError, _core.SegueError) as reason:
            self.reason = str(reason)
            result = getattr(reason, "result", result)
        except Exception as error:
            # forward() refuses these arguments; the original will say so in its own words.
            refused = True
            self.reason = f"forward() raised {type(error).__name__}: {error}"
        if plan is None or not plan.runs:
            guard = ModuleState(module).guard
        arguments = tuple(
            (True, layout_of(x)) if isinstance(x, Tensor) else (False, x) for x in flat
        )
        place = None if plan is None else _place(plan, flat)
        setting = self.calls.setting()
        self.calls.add(_entry(names, arguments, guard, plan, self.gradient, place, setting))
        self._captures += 1
        self._spent += time.monotonic() - began
        if self.reason and not refused:
            self._complain(module)
        return result

    def _may_capture(self) -> bool:
        """Bounds what is lost on a module whose state never stays the same."""
        allowed = CAPTURE_SHARE * (time.monotonic() - self._began)
        return self._captures < CAPTURES_FREE or self._spent < allowed

    def _in_a_graph(self, module: nn.Module) -> bool:
        """Whether a CUDA graph is being captured, where nothing can be prepared."""
        if not cuda.capturing():
            return False
        if self.fallback != "silent":
            message = (
                f"{base_of(module).__name__} goes through PyTorch into the CUDA graph that is "
                "being captured: nothing was prepared for these arguments. Call it once before, or "
                "give segue.optimize such arguments as examples"
            )
            warnings.warn(message, SegueWarning, stacklevel=5)
        return True

    def _complain(self, module: nn.Module) -> None:
        """Says that nothing of the module runs through Segue; other sizes may be left unsaid."""
        if self._ever_ran:
            return
        message = f"{base_of(module).__name__} runs through PyTorch: {self.reason}"
        if self.fallback == "error":
            raise _core.NotApplicable(message)
        if self.fallback == "warn" and not self._warned:
            self._warned = True
            warnings.warn(message, SegueWarning, stacklevel=6)

    # ---- gradients -----------------------------------------------------------------------------

    def gradient(
        self, entry: _core.Entry, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A call while gradients are on and an argument or parameter needs one."""
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        held = [x for x in entry.tensors if isinstance(x, Tensor)]
        every = [*tensors, *held]
        if any(x.is_inference() for x in every) or not all(x.is_leaf for x in held):
            return _core.ORIGINAL
        key = (id(entry), *(x.requires_grad for x in every))
        differentiable = self._differentiable.get(key)
        if differentiable is None:
            # Which results need a gradient is eager's to say, once.
            result = _original(module)(module, *args, **kwargs)
            leaves = [x for x in pytree.tree_leaves(result) if isinstance(x, Tensor)]
            differentiable = tuple(x.requires_grad for x in leaves)
            self._keep(key, differentiable)
        if not any(differentiable):
            with torch.no_grad():
                return self.calls.run_values(module, args, kwargs)
        if self._trains:
            return _core.ORIGINAL
        return self._recomputed(entry, module, args, kwargs, (tensors, held), differentiable)

    def _keep(self, key: Any, differentiable: tuple[bool, ...]) -> None:
        self._differentiable[key] = differentiable
        if len(self._differentiable) > 4 * ENTRIES_MAX:
            self._differentiable.popitem(last=False)

    def _recomputed(
        self,
        entry: _core.Entry,
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: tuple[list[Tensor], list[Tensor]],
        differentiable: tuple[bool, ...],
    ) -> Any:
        own, held = tensors
        spec: Any = None
        setting = autocast.setting()

        def first() -> list[Tensor]:
            nonlocal spec
            result = self.calls.run_values(module, args, kwargs)
            if result is _core.MISS or result is _core.ORIGINAL:
                result = _original(module)(module, *args, **kwargs)
            leaves, spec = pytree.tree_flatten(result)
            return leaves

        def again(*given: Tensor) -> list[Tensor]:
            if not entry.guard.holds():
                raise RuntimeError(
                    f"{base_of(module).__name__} was changed between forward and backward, so its "
                    "operators cannot be run again; call backward before changing it"
                )
            self._trains = True
            values = iter(given)
            new = [next(values) if isinstance(x, Tensor) else x for x in args]
            named = {k: next(values) if isinstance(x, Tensor) else x for k, x in kwargs.items()}
            with autocast.restored(setting):
                result = _original(module)(module, *new, **named)
            return [x for x in pytree.tree_leaves(result) if isinstance(x, Tensor)]

        live = [False] * len(own) + [True] * len(held)
        constant = [not d for d in differentiable]
        results = Recompute.apply(again, first, live, constant, *own, *held)
        return pytree.tree_unflatten(list(results), spec)


def _entry(
    names: tuple[str, ...],
    arguments: tuple[tuple[bool, Any], ...],
    guard: _core.Guard,
    plan: Plan | None,
    gradient: Any,
    place: Place,
    setting: Any,
) -> _core.Entry:
    if plan is None or not plan.runs:
        none = (), (), (), None, (), None, None, None
        return _core.Entry(names, arguments, guard, *none, place, setting)
    return _core.Entry(
        names,
        arguments,
        guard,
        tuple(plan.tensors),
        tuple(plan.layouts),
        tuple(plan.binding),
        plan.program,
        tuple(plan.outputs),
        plan.capture.rebuild,
        plan.runner,
        gradient,
        place,
        setting,
    )


def _named(options: Options, name: str | None) -> Options:
    """Options with the class that the caller's segue.use_precision names, if it does."""
    return options if name is None else dataclasses.replace(options, precision=name)


def _place(plan: Plan, arguments: list[Any]) -> Place:
    """What beside layouts an entry for a GPU depends on, and its workspace."""
    if plan.device < 0:
        return None
    tensors = [x for x in (*arguments, *plan.tensors) if isinstance(x, Tensor)]
    workspace = workspace_of(plan.program, plan.device) if plan.program else None
    return plan.device, cuda.aligned(tensors), plan.switches, workspace


def _reasons(plan: Plan) -> str:
    reasons = dict.fromkeys(step.reason for step in plan.steps if step.reason)
    return "; ".join(reasons) or "nothing in it is an operator that Segue runs"
