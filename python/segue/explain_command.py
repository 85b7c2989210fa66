"""`segue explain`: what Segue does with a model and why."""

from __future__ import annotations

import argparse

import torch
from rich.padding import Padding
from rich.text import Text

import segue

from . import report
from .modelfile import UserError, describe, load_with_inputs, on_device


def run(args: argparse.Namespace) -> int:
    """The command: the explanation of segue.explain under a heading of what was compiled."""
    file = on_device(load_with_inputs(args.model), args.device)
    module, inputs = file.build(), file.inputs(args.batch)
    try:
        with torch.no_grad():
            explanation = segue.explain(module, *inputs)
    except Exception as error:
        raise UserError(f"{file.path}: cannot be explained: {describe(error)}") from error
    console = report.console()
    sizes = ", ".join(str(list(x.shape)) if hasattr(x, "shape") else repr(x) for x in inputs)
    console.rule(f"{file.name}  {sizes}".replace("[", r"\["), align="left")
    console.print(Padding(Text(str(explanation).rstrip()), (0, 0, 0, 2)))
    return 0
