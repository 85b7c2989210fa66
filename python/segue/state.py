"""What forward() can read of a module: its attributes, parameters, submodules and hooks.

A capture holds for one such state. The guard (in C) compares it before every call, by identity;
this file says which containers there are to compare.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as nn_module

from ._core import Guard

# Where a drop-in keeps what Segue made for it. Not part of the state.
RUNTIME = "_segue"

_DEPTH_MAX = 4
_CONTAINERS_MAX = 20000
_GLOBAL_HOOKS = (
    "_global_forward_pre_hooks",
    "_global_forward_hooks",
    "_global_backward_pre_hooks",
    "_global_backward_hooks",
)
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")

Container = dict[Any, Any] | list[Any]


class ModuleState:
    """The containers of a module and all its submodules, as they are now."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.tensors: dict[int, str] = {}  # id -> path, of every tensor found
        self._objects: dict[int, Tensor] = {}
        self._containers: dict[int, Container] = {}
        for name, submodule in module.named_modules():
            self._collect(submodule.__dict__, name, 0)
        for name in _GLOBAL_HOOKS:
            hooks = getattr(nn_module, name, None)
            if isinstance(hooks, dict):
                self._containers[id(hooks)] = hooks
        containers = list(self._containers.values())
        self._contents: list[Any] = [c.copy() for c in containers]
        self.guard = Guard(containers)

    def _collect(self, value: Any, path: str, depth: int) -> None:
        if isinstance(value, Tensor):
            self.tensors.setdefault(id(value), path)
            self._objects.setdefault(id(value), value)
            return
        if isinstance(value, nn.Module) or depth > _DEPTH_MAX or id(value) in self._containers:
            return
        if isinstance(value, (dict, list)) and len(self._containers) < _CONTAINERS_MAX:
            self._containers[id(value)] = value
        elif not isinstance(value, tuple):
            return
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            # The dictionaries nn.Module keeps these in are not part of a name.
            inner = (
                path if str(key) in ("_parameters", "_buffers") and depth == 0 else _join(path, key)
            )
            self._collect(item, inner, depth + 1)

    def hook(self) -> str | None:
        """The submodule on which a hook is registered, which only the original runs."""
        if any(getattr(nn_module, name, None) for name in _GLOBAL_HOOKS):
            return "all modules"
        for name, submodule in self.module.named_modules():
            # The module's own hooks are run around forward(), by nn.Module.__call__.
            if submodule is not self.module and any(getattr(submodule, h, None) for h in _HOOKS):
                return name
        return None

    def restore(self) -> bool:
        """Puts every container back as it was; whether one had changed."""
        if self.guard.holds():
            return False
        for container, contents in zip(self._containers.values(), self._contents, strict=True):
            if isinstance(container, list):
                container[:] = contents
            else:
                container.clear()
                container.update(contents)
        return True

    def objects(self) -> list[Tensor]:
        """Every plain tensor found."""
        return [x for x in self._objects.values() if x.layout == torch.strided]


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
