"""Rows of `segue bench --device cuda` by class of numbers: like against like.

Segue and eager PyTorch on the same model with TF32 off, and in half precision, where eager may
have the memory format that suits it. Whatever the module's own class is, each of these is timed
and judged by itself.
"""

from __future__ import annotations

import copy
import math
import statistics
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from rich.table import Table
from torch import nn

import segue

from . import bench, gpu_clock, report
from .bench import Options, Record
from .modelfile import UserError, describe
from .timing import Run, Spread, ratios

TITLES = {"fp32": "fp32, TF32 off", "fp16": "fp16", "bf16": "bf16"}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SUBJECTS = {"eager": "eager", "channels_last": "eager, channels last", "segue": "Segue"}
SHARE = 0.1  # of the time of a model's main rows, for each class
WARM_CALLS = 3
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def names_of(given: str | None, others: str | None) -> list[str]:
    """The classes to time: all, unless they are named or other rows alone are (--subjects)."""
    if given is None:
        return [] if others else list(TITLES)
    named = [name for name in given.split(",") if name and name != "none"]
    unknown = [name for name in named if name not in TITLES]
    if unknown:
        raise UserError(f"--classes: {unknown[0]!r} is none of {', '.join(TITLES)}, none.")
    return [name for name in TITLES if name in named]


def measure_class(
    name: str, model: str, module: nn.Module, inputs: list[Any], options: Options
) -> tuple[Record | None, list[str]]:
    """One class of one model's record, or None, and sentences on what is not in it."""
    notes: list[str] = []
    with strictly() if name == "fp32" else nullcontext():
        try:
            return _measured(name, model, module, inputs, options, notes), notes
        except torch.OutOfMemoryError as error:
            notes.append(f"{model}: {TITLES[name]} cannot run here: {describe(error)}")
            return None, notes


def _measured(
    name: str, model: str, module: nn.Module, inputs: list[Any], options: Options, notes: list[str]
) -> Record:
    dtype = DTYPES[name]
    cast = copy.deepcopy(module).to(dtype)
    given = [_cast(x, dtype) for x in inputs]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fused = segue.optimize(copy.deepcopy(cast), *given, tune=options.tune)
        fused(*given)
    ours = [w for w in said if w.category is segue.SegueWarning]
    notes += [f"{model}, {TITLES[name]}: {w.message}" for w in ours]
    explanation = segue.explain(fused, *given)
    found: Record = {"kernels": explanation.kernels, "left_to_pytorch": explanation.reason}
    found |= bench.correctness(cast, fused, given, cast(*given))
    functions: dict[str, Run] = {
        "eager": lambda: cast(*given),
        "channels_last": channels_last(cast, given),
        "segue": lambda: fused(*given),
    }
    for function in functions.values():
        for _ in range(WARM_CALLS):
            function()
    rounds = gpu_clock.interleave(functions, SHARE * options.seconds, options.rounds)
    found["subjects"] = {}
    for subject in functions:
        spread = Spread.of([s * 1e3 for s in rounds[subject]])
        found["subjects"][subject] = {
            "ms": spread.median,
            "ms_quartiles": [spread.low, spread.high],
            "speedup_of_segue": ratios(rounds, subject, "segue").median,
        }
    return found


def _cast(x: Any, dtype: torch.dtype) -> Any:
    return x.to(dtype) if isinstance(x, torch.Tensor) and x.is_floating_point() else x


def channels_last(module: nn.Module, inputs: list[Any]) -> Run:
    """Module and inputs with channels next to one another."""

    def turned(x: Any) -> Any:
        known = isinstance(x, torch.Tensor) and x.dim() in FORMATS
        return x.contiguous(memory_format=FORMATS[x.dim()]) if known else x

    made = copy.deepcopy(module)
    for parameter in made.parameters():
        parameter.data = turned(parameter.data)
    given = [turned(x) for x in inputs]
    return lambda: made(*given)


@contextmanager
def strictly() -> Iterator[None]:
    """With float32 convolutions in float32."""
    flags: Callable[..., AbstractContextManager[None]] = torch.backends.cudnn.flags
    with flags(
        enabled=True,
        benchmark=torch.backends.cudnn.benchmark,
        deterministic=torch.backends.cudnn.deterministic,
        allow_tf32=False,
    ):
        yield


# ---- what people see -----------------------------------------------------------------------------


def better(found: Record) -> float:
    """How much faster Segue is than eager in the memory format that suits eager best."""
    others = [x["speedup_of_segue"] for name, x in found["subjects"].items() if name != "segue"]
    return float(min(others))


def rows(records: list[Record]) -> list[list[str]]:
    """Milliseconds, speedups and errors by class: a title, a cell a model, and the mean."""
    made = []
    for name in [name for name in TITLES if any(name in r["classes"] for r in records)]:
        found = [r["classes"].get(name) for r in records]
        for subject, title in SUBJECTS.items():
            cells = [_time(subject, x) for x in found]
            made.append([f"{TITLES[name]}: {title}", *cells, _mean(subject, found)])
        made.append(["over the better eager", *map(_better, found), _mean("", found)])
        made.append(["error, Segue's / eager's", *map(_errors, found), ""])
    return made


def table(records: list[Record]) -> Table | None:
    """The rows as a table; None where no class was timed."""
    made = rows(records)
    if not made:
        return None
    heads = ["ms (Segue is faster by)", *(r["model"] for r in records), "geometric mean"]
    result = report.table("By class of numbers", heads)
    for number, cells in enumerate(made, 1):
        result.add_row(*cells, end_section=number % (len(SUBJECTS) + 2) == 0)
    return result


def _time(subject: str, found: Record | None) -> str:
    return report.subject(subject, found["subjects"].get(subject)) if found else "-"


def _better(found: Record | None) -> str:
    if not found:
        return "-"
    return report.speedup(better(found)) + ("" if found["correct"] else ", WRONG")


def _errors(found: Record | None) -> str:
    if not found:
        return "-"
    both = found["rel_err_fp64"], found["rel_err_fp64_eager"]
    return " / ".join(report.number(x, 2) for x in both)


def _mean(subject: str, found: list[Record | None]) -> str:
    """Of speedups over a subject; over the better of eager's where none is named."""
    known = [x for x in found if x]
    if subject == "segue" or not known:
        return ""
    every = [x["subjects"][subject]["speedup_of_segue"] if subject else better(x) for x in known]
    usable = [x for x in every if x > 0 and math.isfinite(x)]
    return report.speedup(statistics.geometric_mean(usable)) if usable else "-"
