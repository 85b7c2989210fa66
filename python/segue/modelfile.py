"""Model files: Python files that define a model and how to build and feed it.

A model file defines `Model`, a `torch.nn.Module`; `get_inputs()`, the arguments of one forward
call; and `get_init_inputs()`, the arguments of the constructor (none when it is missing). This
module loads such files and answers in one sentence, as a UserError, what is wrong with one. It
imports nothing else of Segue, so that start-up can be timed without it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn


class UserError(Exception):
    """What the user gave cannot be used; the message is one sentence that says what and where."""


@dataclass(frozen=True)
class ModelFile:
    """A loaded model file."""

    path: Path
    namespace: ModuleType
    model: type[nn.Module]
    device: str = "cpu"  # where build() and inputs() put what they make

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    def on(self, device: str) -> ModelFile:
        """The same file for another device."""
        return dataclasses.replace(self, device=device)

    def build(self, seed: int = 0) -> nn.Module:
        """The model in evaluation mode, its parameters drawn with `seed`."""
        torch.manual_seed(seed)
        return self.construct(self.init_inputs()).eval().to(self.device)

    def init_inputs(self) -> list[Any]:
        """The arguments of the constructor."""
        arguments = self._call("get_init_inputs") if self._has("get_init_inputs") else []
        if not isinstance(arguments, list | tuple):
            raise UserError(f"{self.path}: get_init_inputs() must return a list of arguments.")
        return list(arguments)

    def construct(self, arguments: list[Any]) -> nn.Module:
        """`Model(*arguments)`."""
        try:
            return self.model(*arguments)
        except Exception as error:
            raise UserError(self._raised(f"{self.model.__name__}(...)", error)) from error

    def inputs(self, batch: int | None = None, seed: int = 0) -> list[Any]:
        """Arguments of one forward call drawn with `seed`, with `batch` as the leading dimension.

        A constant `batch_size` of the file is set for the call, which spares drawing a large batch
        to keep a small one. Inputs that still share another leading dimension are cut or repeated.
        """
        torch.manual_seed(seed)
        if batch is None:
            return self._inputs()
        own = getattr(self.namespace, "batch_size", None)
        if not isinstance(own, int):
            return with_batch(self._inputs(), batch)
        self.namespace.batch_size = batch  # type: ignore[attr-defined]
        try:
            return with_batch(self._inputs(), batch)
        finally:
            self.namespace.batch_size = own  # type: ignore[attr-defined]

    def _inputs(self) -> list[Any]:
        result = self._call("get_inputs")
        if not isinstance(result, list | tuple):
            raise UserError(
                f"{self.path}: get_inputs() must return a list of inputs, "
                f"not {type(result).__name__}."
            )
        return [x.to(self.device) if isinstance(x, torch.Tensor) else x for x in result]

    def _has(self, name: str) -> bool:
        return callable(getattr(self.namespace, name, None))

    def _call(self, name: str) -> Any:
        function: Callable[[], Any] = getattr(self.namespace, name)
        try:
            return function()
        except Exception as error:
            raise UserError(self._raised(f"{name}()", error)) from error

    def _raised(self, what: str, error: BaseException) -> str:
        return f"{self.path}: {what} raised {describe(error, self.path)}"


def on_device(file: ModelFile, device: str) -> ModelFile:
    """A file for --device; UserError where there is no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("PyTorch finds no GPU here; use --device cpu.")
    return file.on(device)


def load(path: str | Path, classes: tuple[str, ...] = ("Model",)) -> ModelFile:
    """Loads a model file; its model is the first of `classes` that the file defines."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: there is no such file.")
    if not path.is_file():
        raise UserError(f"{path}: is not a file.")
    namespace = _import(path)
    found = next((getattr(namespace, name) for name in classes if hasattr(namespace, name)), None)
    if found is None:
        raise UserError(f"{path}: defines no class {' or '.join(classes)}.")
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"{path}: {classes[0]} is not a subclass of torch.nn.Module.")
    return ModelFile(path, namespace, found)


def load_with_inputs(path: str | Path) -> ModelFile:
    """Loads a model file that must say what to feed the model."""
    file = load(path)
    if not callable(getattr(file.namespace, "get_inputs", None)):
        raise UserError(f"{file.path}: defines no function get_inputs().")
    return file


def with_batch(inputs: list[Any], batch: int) -> list[Any]:
    """`inputs` with the leading dimension that the first tensor has replaced by `batch`."""
    own = batch_of(inputs)
    if own is None or own == batch:
        return inputs
    return [_rebatch(x, batch) if _leads(x, own) else x for x in inputs]


def batch_of(inputs: list[Any]) -> int | None:
    """The leading dimension of the first tensor that has one."""
    return next(
        (x.shape[0] for x in inputs if isinstance(x, torch.Tensor) and x.dim() > 1),
        None,
    )


def describe(error: BaseException, path: Path | None = None) -> str:
    """An exception as the end of a sentence: type, first line of the message, line in `path`."""
    lines = str(error).strip().splitlines()
    message = f": {lines[0].rstrip('.')}" if lines else ""
    place = ""
    if isinstance(error, SyntaxError) and error.lineno:
        message, place = f": {error.msg}", f" on line {error.lineno}"
    elif path is not None:
        frames = traceback.extract_tb(error.__traceback__)
        numbers = [f.lineno for f in frames if Path(f.filename).name == path.name and f.lineno]
        place = f" on line {numbers[-1]}" if numbers else ""
    return f"{type(error).__name__}{place}{message}."


def _import(path: Path) -> ModuleType:
    resolved = path.resolve()
    # A name of its own keeps two files called model.py apart and lets pickle and inspect find both.
    name = f"segue_model_{path.stem}_{hashlib.sha256(str(resolved).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, resolved)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: is not a Python file (its name must end in .py).")
    namespace = importlib.util.module_from_spec(spec)
    sys.modules[name] = namespace
    try:
        spec.loader.exec_module(namespace)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        del sys.modules[name]
        what = f"{path}: could not be imported, it raised {describe(error, path)}"
        raise UserError(what) from error
    return namespace


def _leads(x: Any, batch: int) -> bool:
    return isinstance(x, torch.Tensor) and x.dim() > 1 and x.shape[0] == batch


def _rebatch(x: torch.Tensor, batch: int) -> torch.Tensor:
    if batch <= x.shape[0]:
        return x[:batch].clone()
    repeats = -(-batch // max(x.shape[0], 1))
    return x.repeat(repeats, *[1] * (x.dim() - 1))[:batch].clone()
