"""`segue bench --device cuda`: PyTorch in all its modes and Segue, on one GPU.

One process runs all of them on the same inputs, without gradients, in interleaved rounds
(gpu_clock.py), then, for each class of numbers, eager and Segue in it alone (bench_classes.py).
Correctness is judged as on the CPU. `--report` writes the figures as JSON, two pictures, and a page
that holds them.
"""

from __future__ import annotations

import argparse
import copy
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from rich.progress import Progress
from rich.table import Table
from torch import nn

import segue

from . import accuracy, bench, bench_classes, gpu_clock, machine, measure, report
from .bench import Options, Record, Step
from .modelfile import ModelFile, UserError, batch_of, describe, load_with_inputs, on_device
from .prepare import DropIn
from .state import RUNTIME
from .timing import Run, Spread, ratios

TITLES = {
    "eager": "eager",
    "channels_last": "eager, channels last",
    "compile": "torch.compile",
    "max_autotune_no_graphs": "torch.compile, max-autotune-no-cudagraphs",
    "max_autotune": "torch.compile, max-autotune",
    "tf32": "Segue, class tf32",
    "segue": "Segue",
}
COMPILED = {
    "compile": "default",
    "max_autotune_no_graphs": "max-autotune-no-cudagraphs",
    "max_autotune": "max-autotune",
}
# Their memory is in pools of their own, which the peak does not tell apart.
WITHOUT_PEAK = ("max_autotune",)
WARM_CALLS = 3


def run(args: argparse.Namespace) -> int:
    """The command: measures every model, prints tables, writes the report."""
    report.writable(args.json)
    wanted = names_of(args.subjects)
    classes = bench_classes.names_of(args.classes, args.subjects)
    if args.report:
        from . import pictures  # noqa: PLC0415  (matplotlib is wanted for reports alone)

        pictures.demand()
        report.make_folder(args.report)
    files = [on_device(load_with_inputs(path), "cuda") for path in args.models]
    options = Options(args.batch, args.seconds, args.repeat, "cuda", tune=args.tune)
    with report.progress_bar() as bar:
        records = measure_all(files, options, wanted, classes, bar)
    if args.json:
        report.write_json(args.json, records)
    if args.report:
        pictures.write(Path(args.report), records, TITLES)
    console = report.console()
    console.print(time_table(records))
    by_class = bench_classes.table(records)
    if by_class:
        console.print(by_class)
    console.print(detail_table(records))
    bench.explain(console, records, legend())
    judged = [*records, *(x for r in records for x in r["classes"].values())]
    return 0 if all(r["correct"] for r in judged) else 1


def names_of(given: str | None) -> list[str]:
    """The subjects to time, eager first and Segue last."""
    named = given.split(",") if given else list(TITLES)
    unknown = [name for name in named if name not in TITLES]
    if unknown:
        raise UserError(f"--subjects: {unknown[0]!r} is none of {', '.join(TITLES)}.")
    return [name for name in TITLES if name in named or name in ("eager", "segue")]


def measure_all(
    files: list[ModelFile],
    options: Options,
    wanted: list[str],
    classes: list[str],
    bar: Progress,
) -> list[Record]:
    """One record a model."""
    task = bar.add_task("", total=float(len(files)))
    best, records = gpu_clock.ceilings(), []
    for index, file in enumerate(files):

        def step(what: str, done: float, index: int = index, name: str = file.name) -> None:
            bar.update(task, completed=index + done, description=f"{name}: {what}")

        record = measure_model(file, options, wanted, classes, step)
        least = best.floor_seconds(record["precision"], record["flops"], record["bytes"]) * 1e3
        record |= {"floor_ms": least, "ceilings": asdict(best)}
        record["floor_fraction"] = least / record["subjects"]["segue"]["ms"]
        records.append(record)
        torch.cuda.empty_cache()
    return records


def measure_model(
    file: ModelFile, options: Options, wanted: list[str], classes: list[str], step: Step
) -> Record:
    """One model's record, as --json writes it, but for the floor."""
    step("building", 0.0)
    notes: list[str] = []
    module, inputs = file.build(), file.inputs(options.batch)
    with torch.no_grad():
        try:
            expected = module(*inputs)
        except Exception as error:
            what = f"{file.path}: Model's forward raised {describe(error, file.path)}"
            raise UserError(what) from error
        fused = optimized(file.name, module, inputs, options.tune, notes)
        step("comparing", 0.1)
        record = describe_run(file, module, fused, inputs)
        record |= bench.correctness(module, fused, inputs, expected)
        record["flops"], record["bytes"] = measure.work(module, inputs, expected)
        del expected
        record |= build_times(fused)
        functions: dict[str, Run] = {}
        for index, name in enumerate(wanted):
            if name == "tf32" and record["precision"] != "fp32":
                continue  # that is what "match" takes anyway, or there is no such choice
            step(f"preparing {TITLES[name]}", 0.15 + 0.4 * index / len(wanted))
            function = prepare(name, module, fused, inputs)
            try:
                for _ in range(WARM_CALLS):
                    function()
                torch.cuda.synchronize()
            except Exception as error:
                notes.append(f"{file.name}: {TITLES[name]} cannot run here: {describe(error)}")
                continue
            functions[name] = function
        rounds = gpu_clock.interleave(
            functions,
            options.seconds,
            options.rounds,
            lambda done: step("timing", 0.55 + 0.4 * done),
        )
        record["rounds"] = len(rounds["eager"])
        record["subjects"] = {
            name: figures(name, function, rounds) for name, function in functions.items()
        }
        del functions
        record["classes"] = {}
        for index, name in enumerate(classes):
            step(bench_classes.TITLES[name], 0.95 + 0.05 * index / len(classes))
            torch.cuda.empty_cache()
            of_class, said = bench_classes.measure_class(name, file.name, module, inputs, options)
            notes += said
            if of_class:
                record["classes"][name] = of_class
    record["notes"] = notes
    torch.compiler.reset()
    return record


def figures(name: str, function: Run, rounds: dict[str, list[float]]) -> Record:
    """Time, speedup of Segue, host time and memory of one subject."""
    spread = Spread.of([s * 1e3 for s in rounds[name]])
    against = ratios(rounds, name, "segue")
    extra = None if name in WITHOUT_PEAK else gpu_clock.extra_bytes(function) / 1e6
    against_others = {
        other: ratios(rounds, other, name).median for other in rounds if other != name
    }
    return {
        "ms": spread.median,
        "ms_quartiles": [spread.low, spread.high],
        "faster_than": against_others if name in ("segue", "tf32") else {},
        "speedup_of_segue": against.median,
        "speedup_quartiles": [against.low, against.high],
        "host_us": gpu_clock.host_seconds(function) * 1e6,
        "extra_mb": extra,
    }


def optimized(
    name: str, module: nn.Module, inputs: list[Any], tune: bool, notes: list[str]
) -> nn.Module:
    """Segue's drop-in, called once."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fused = segue.optimize(copy.deepcopy(module), *inputs, tune=tune)
        fused(*inputs)
    notes += [f"{name}: {w.message}" for w in said if w.category is segue.SegueWarning]
    return fused


def prepare(name: str, module: nn.Module, fused: nn.Module, inputs: list[Any]) -> Run:
    """One subject's call."""
    if name == "segue":
        return lambda: fused(*inputs)
    if name == "tf32":
        told = segue.optimize(copy.deepcopy(module), *inputs, precision="tf32")
        return lambda: told(*inputs)
    if name == "channels_last":
        return bench_classes.channels_last(module, inputs)
    if name == "eager":
        return lambda: module(*inputs)
    compiled = torch.compile(copy.deepcopy(module), mode=COMPILED[name])
    if name != "max_autotune":
        return lambda: compiled(*inputs)
    for x in accuracy.tensors(inputs):  # its graph then reads them where they are
        torch._dynamo.mark_static_address(x)

    def replay() -> object:
        torch.compiler.cudagraph_mark_step_begin()
        return compiled(*inputs)

    return replay


def describe_run(file: ModelFile, module: nn.Module, fused: nn.Module, inputs: list[Any]) -> Record:
    """What was run and on what."""
    explanation = segue.explain(fused, *inputs)
    plan = fused.__dict__[RUNTIME].last if isinstance(fused, DropIn) else None
    classes = [step.precision for step in plan.steps if step.precision] if plan else []
    return {
        "model": file.name,
        "device": "cuda",
        "gpu": machine.gpu_name(),
        "precision": classes[0] if classes else bench.precision_of(inputs),
        "shapes": [list(x.shape) for x in accuracy.tensors(inputs)],
        "batch": batch_of(inputs),
        "parameters": sum(p.numel() for p in module.parameters()),
        "kernels": explanation.kernels,
        "left_to_pytorch": explanation.reason,
        "explanation": str(explanation),
        "versions": machine.versions(),
        "commit": machine.commit(),
    }


def build_times(fused: nn.Module) -> Record:
    """Seconds that NVRTC takes for the model's kernels, and that the kernel cache takes."""
    plan = fused.__dict__[RUNTIME].last if isinstance(fused, DropIn) else None
    made = [step.program for step in plan.steps if step.program] if plan else []
    found: list[float | None] = []
    with _empty_cache():
        for _ in range(2):
            start = time.perf_counter()
            for program in made:
                program.build()
            found.append(time.perf_counter() - start if made else None)
    return {"build_s": found[0], "cached_build_s": found[1]}


@contextmanager
def _empty_cache() -> Iterator[None]:
    """A new cache folder for a while."""
    with (
        tempfile.TemporaryDirectory(prefix="segue-bench-") as folder,
        mock.patch.dict(os.environ, {"SEGUE_CACHE_DIR": folder}),
    ):
        yield


# ---- what people see -----------------------------------------------------------------------------


def time_table(records: list[Record]) -> Table:
    """Milliseconds and how many times faster Segue is; one row a subject, one column a model."""
    title = f"{records[0]['gpu']}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}"
    table = report.table(title, ["ms (Segue is faster by)", *(r["model"] for r in records)])
    for name, label in TITLES.items():
        if any(name in r["subjects"] for r in records):
            table.add_row(label, *(report.subject(name, r["subjects"].get(name)) for r in records))
    table.add_row("floor", *(report.number(r["floor_ms"]) for r in records))
    return table


DETAILS: dict[str, Callable[[Record], Any]] = {
    "correct": lambda r: "yes" if r["correct"] else "[bold red]NO[/]",
    "class of numbers": lambda r: r["precision"],
    "largest difference from eager": lambda r: r["max_abs_diff_eager"],
    "error against float64": lambda r: r["rel_err_fp64"],
    "eager's error": lambda r: r["rel_err_fp64_eager"],
    "fused kernels": lambda r: r["kernels"],
    "of the floor": lambda r: f"{100 * r['floor_fraction']:.0f}%",
    "extra MB": lambda r: r["subjects"]["segue"]["extra_mb"],
    "eager's extra MB": lambda r: r["subjects"]["eager"]["extra_mb"],
    "host us": lambda r: r["subjects"]["segue"]["host_us"],
    "eager's host us": lambda r: r["subjects"]["eager"]["host_us"],
    "build s": lambda r: r["build_s"],
    "build s, from the cache": lambda r: r["cached_build_s"],
}


def detail_table(records: list[Record]) -> Table:
    """Errors, memory, host time and build times; one column a model."""
    table = report.table("", ["", *(r["model"] for r in records)])
    for label, get in DETAILS.items():
        cells = [get(r) for r in records]
        table.add_row(label, *(x if isinstance(x, str) else report.number(x, 2) for x in cells))
    return table


def legend() -> list[str]:
    """What the rows mean."""
    text = """
    Times: median milliseconds of a call between two events on the GPU, its cache flushed before, in
    interleaved rounds; in brackets the median of the ratios within a round. Class tf32: Segue told
    to take it where PyTorch takes plain float32. By class: both in that class, eager in either
    memory format; the mean is over the models.

    Correct: shape, dtype and strides are eager's, values agree with eager's at 1e-4 (halves:
    at 1e-2, or are as near to float64 everywhere as eager's), and the relative error (norm-wise,
    against float64) is at most 1.1 times eager's or one rounding.

    Floor: max(operations / rate of fp16 products, three of them for fp32, bytes of inputs,
    parameters and outputs / rate of a copy), both measured here.

    Extra: the most memory that a call holds beyond inputs, parameters and results. Host: what a
    call takes of the processor. Build: compiling the kernels with an empty cache folder.
    """
    return [" ".join(p.split()) for p in text.split("\n\n") if p.strip()]
