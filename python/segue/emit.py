"""`segue compile MODEL.py -o NEW.py`: a model with fused operators as one file without Segue.

The file holds the model as it was, the kernels as readable CUDA C, a binding that PyTorch builds at
the first call, and `ModelNew`, which checks what the kernels assume. `--emit c` writes the kernels
alone, with a plain C entry.
"""

from __future__ import annotations

import argparse
import inspect
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from . import (
    emit_c,
    emit_figures,
    emit_file,
    emit_forward,
    emit_kernels,
    emit_plan,
    emit_source,
    emit_trace,
    precision,
)
from ._core import SegueError
from .modelfile import ModelFile, UserError, load_with_inputs
from .trace import NotCapturedError

ARCHITECTURE = "sm_90a"


@dataclass
class Subject:
    """A model file on its way to another file."""

    file: ModelFile
    module: nn.Module
    arguments: dict[str, Any]  # of forward(), by expression
    constants: dict[str, Any]  # those that are no tensors
    trace: emit_trace.Trace
    plan: emit_plan.Plan
    functions: list[emit_file.Function]
    kernels: str = ""  # CUDA C of all regions


def run(args: argparse.Namespace) -> int:
    """The command."""
    if args.device == "cpu" and args.emit != "c":
        raise UserError("for the CPU there is no Python file; add --emit c.")
    file = load_with_inputs(args.model)
    figures = emit_figures.read(args.figures, file.name) if args.figures else None
    wanted = _wanted(args, figures)
    subject = examine(file, args.batch, wanted)
    if args.emit == "c":
        if isinstance(subject, str):
            raise UserError(f"{file.path}: there are no kernels to write: {subject}.")
        written = emit_c.write(subject, Path(args.output), wanted)
    else:
        if isinstance(subject, str):
            print(f"{file.path}: nothing is fused: {subject}", file=sys.stderr)
            text = write_plain(file, subject, _command(args))
        else:
            text = write(subject, wanted, figures, _command(args))
        written = [save(Path(args.output), text)]
    for path in written:
        print(f"{path}: {len(path.read_text(encoding='utf-8').splitlines())} lines")
    return 0


def _command(args: argparse.Namespace) -> str:
    """The command that does the same again."""
    words = ["segue", "compile", args.model, "-o", args.output]
    for name in ("batch", "gpu", "precision", "figures"):
        value = getattr(args, name)
        if value is not None:
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def save(path: Path, text: str) -> Path:
    """Writes the file."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}).") from None
    return path


def _wanted(args: argparse.Namespace, figures: emit_figures.Figures | None) -> emit_plan.Wanted:
    if args.device == "cpu":
        return emit_plan.Wanted(None, precision.FP32)
    gpu = args.gpu or ("0" if torch.cuda.is_available() else ARCHITECTURE)
    named: str | None = args.precision or (figures.precision if figures else None)
    return emit_plan.Wanted(gpu, named or precision.MATCH)


# ---- what the file will say --------------------------------------------------------------------


def examine(file: ModelFile, batch: int | None, wanted: emit_plan.Wanted) -> Subject | str:
    """Traces, partitions and compiles a model for its own inputs; or why nothing is fused."""
    module = file.build()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):  # takes no memory
            inputs = file.inputs(batch)
    except UserError:
        inputs = file.inputs(batch)
    signature = inspect.signature(file.model.forward)
    try:
        bound = signature.bind(module, *inputs)
    except TypeError as error:
        raise UserError(f"{file.path}: forward() does not take its inputs: {error}.") from None
    bound.apply_defaults()
    values = dict(list(bound.arguments.items())[1:])
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            arguments |= {f"{name}[{i}]": x for i, x in enumerate(value)}
        elif kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= {f'{name}["{k}"]': x for k, x in value.items()}
        else:
            arguments[name] = value

    def forward(given: dict[str, Any]) -> Any:
        made = inspect.BoundArguments(signature, dict(bound.arguments))
        for name, value in values.items():
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                made.arguments[name] = tuple(given[f"{name}[{i}]"] for i in range(len(value)))
            elif kind is inspect.Parameter.VAR_KEYWORD:
                made.arguments[name] = {k: given[f'{name}["{k}"]'] for k in value}
            else:
                made.arguments[name] = given[name]
        return file.model.forward(*made.args, **made.kwargs)

    try:
        trace = emit_trace.trace(module, arguments, forward)
        plan = emit_plan.make_plan(trace, file.model.__name__, wanted)
        functions = _functions(trace, plan, arguments)
    except NotCapturedError as reason:
        return str(reason)
    except SegueError as error:
        raise UserError(f"{file.path}: {error}.") from None
    except Exception as error:
        return f"forward() raised {type(error).__name__} on tensors without data: {error}"
    if not plan.regions:
        return "; ".join(dict.fromkeys(plan.reasons)) or "no operator of it is in Segue's table"
    constants = {n: v for n, v in arguments.items() if not isinstance(v, Tensor)}
    return Subject(file, module, arguments, constants, trace, plan, functions)


def _functions(
    trace: emit_trace.Trace, plan: emit_plan.Plan, arguments: dict[str, Any]
) -> list[emit_file.Function]:
    names = emit_forward.Names([*emit_file.OWN_NAMES, "self", *arguments])
    wanted = {v: path.split(".")[-1] for v, path in trace.capture.names.items()}
    functions = []
    for compiled in plan.regions:
        joined = "_".join(compiled.region.operators)
        compiled.region.name = names.new(joined if len(joined) <= 40 else joined[:40].rstrip("_"))
        functions.append(emit_file.function_of(trace, compiled, wanted))
    return functions


# ---- the file ----------------------------------------------------------------------------------


def write_plain(file: ModelFile, reason: str, command: str) -> str:
    """The text of a file in which nothing is fused."""
    source = emit_source.read(file.path.read_text(encoding="utf-8"))
    head = emit_figures.plain_title(file, source, reason, command)
    future = f"from __future__ import {', '.join(source.future)}\n\n" if source.future else ""
    imports = emit_source.sorted_imports(source.imports)
    own = "" if "get_init_inputs" in source.names else _INIT_INPUTS
    new = f'class ModelNew({file.model.__name__}):\n    """As it was."""'
    return f"{head}\n\n{future}{imports}\n\n\n{source.body}{own}\n\n\n{new}\n"


def write(
    subject: Subject,
    wanted: emit_plan.Wanted,
    figures: emit_figures.Figures | None,
    command: str,
) -> str:
    """The text of the file."""
    file = subject.file
    text = file.path.read_text(encoding="utf-8")
    source = emit_source.read(text)
    clash = sorted(source.names & ({*emit_file.OWN_NAMES, "ModelNew"} - {"torch", "warnings"}))
    if clash:
        raise UserError(f"{file.path}: defines {clash[0]}, a name that the new file needs itself.")
    definer = next(c for c in file.model.__mro__ if "forward" in vars(c))
    arguments = emit_source.signature(text, definer.__name__)
    if arguments is None:
        raise UserError(f"{file.path}: forward() is not written in the file, nor by its class.")
    try:
        body = emit_forward.Body(
            subject.trace,
            subject.module,
            subject.plan.steps,
            {v: list(subject.arguments)[i] for v, i in subject.trace.capture.arguments.items()},
            [*emit_file.OWN_NAMES, "self", *source.names, *(f.name for f in subject.functions)],
        ).write()
        checks = emit_file.write_checks(
            subject.trace, subject.module, subject.constants, subject.functions
        )
    except NotCapturedError as reason:
        raise UserError(f"{file.path}: cannot be written down: {reason}.") from None
    code = emit_kernels.code(subject.plan.regions, wanted)
    subject.kernels = code.kernels
    tensors = [n for n, v in subject.arguments.items() if isinstance(v, Tensor)]
    own = "" if "get_init_inputs" in source.names else _INIT_INPUTS
    title = f"{file.model.__name__} with one kernel for each chain of operators above."
    holes = {
        "title": emit_figures.title(subject, source, wanted, figures, command),
        "file": file.path.name,
        "model": ("\n" * source.body.startswith(("class ", "def ", "@"))) + source.body + own,
        "declarations": code.declarations.strip("\n"),
        "kernels": code.kernels.strip("\n"),
        "binding": emit_kernels.binding(subject.functions, code.declarations),
        "expectations": _expectations(subject, checks),
        "name": emit_kernels.identifier(file.name),
        "base": file.model.__name__,
        "class": emit_file.write_class(
            file.model.__name__, title, arguments, tensors, checks, body
        ),
    }
    return emit_file.fill(source, holes)


_INIT_INPUTS = "\n\n\ndef get_init_inputs():\n    return []"
_EXPECT_SETTING = '''

def expect_setting(name, value, wanted):
    """A value that the kernels have as a constant."""
    if type(value) is not type(wanted) or value != wanted:
        raise ValueError(f"{name} is {value}, the kernels were written for {wanted}")
'''
_EXPECT_MODULE = '''

def expect_module(name, module, kind, **settings):
    """A submodule of which forward() needs no more than tensors and these settings."""
    if type(module) is not kind or module._forward_hooks or module._forward_pre_hooks:
        raise ValueError(f"{name} is no {kind.__name__}, or has hooks")
    for key, wanted in settings.items():
        if getattr(module, key) != wanted:
            raise ValueError(f"{name}.{key} is {getattr(module, key)}, written for {wanted}")
'''
_EXPECT_TF32 = '''

def expect_tf32():
    """PyTorch may take TF32 in convolutions: the kernels do, or something as exact."""
    getter = getattr(torch._C, "_get_fp32_precision_getter", None)
    allowed = getter("cuda", "conv") == "tf32" if getter else torch.backends.cudnn.allow_tf32
    if not allowed:
        raise ValueError("TF32 is switched off, the kernels take operands of 11 bits")'''


def _expectations(subject: Subject, checks: list[str]) -> str:
    texts = []
    if any(line.startswith("expect_setting(") for line in checks):
        texts.append(_EXPECT_SETTING)
    if any(part.path for part in subject.trace.parts):
        texts.append(_EXPECT_MODULE)
    if emit_file.rounds(subject.functions):
        texts.append(_EXPECT_TF32)
    return "\n".join(t.rstrip("\n") for t in texts)


__all__ = ["ARCHITECTURE", "Subject", "examine", "run", "write"]
