"""`torch.compile(module, backend="segue")`: graphs that Dynamo finds, as drop-ins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx

from .dropin import make_dropin
from .programs import Options


def backend(graph: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    """The backend: programs are prepared at the first call, when there is data."""
    del example_inputs
    # Dynamo's graphs write their forward() only when they are first called.
    compile_now = getattr(graph, "real_recompile", None)
    if compile_now is not None:
        compile_now()
    made: Callable[..., Any] = make_dropin(graph, Options(), "silent")
    return made
