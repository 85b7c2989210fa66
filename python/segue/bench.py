"""`segue bench`: eager PyTorch, torch.compile and Segue on the same model, side by side.

One process runs all three on the same inputs, without gradients, in interleaved rounds (timing.py).
Correctness comes first: against eager on all of the input and against the same module in float64 on
as many elements of the batch as FLOAT64_FLOPS allows. Memory and start-up are measured in processes
of their own (measure.py, probe.py).
"""

from __future__ import annotations

import argparse
import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import nn

import segue

from . import accuracy, machine, measure, report
from .modelfile import ModelFile, UserError, batch_of, describe, load_with_inputs, with_batch
from .timing import Rounds, Spread, interleave, ratios

FLOAT64_FLOPS = 1e10  # of the slice compared with float64; a few seconds of a slow convolution
CONTENDERS = ("eager", "compile", "segue")
TITLES = {"eager": "eager", "compile": "torch.compile", "segue": "Segue"}

Step = Callable[[str, float], None]  # what is being done, and the fraction of the model done


@dataclass(frozen=True)
class Options:
    """How to measure."""

    batch: int | None = None
    seconds: float = 10.0  # of interleaved rounds, a model
    rounds: int | None = None
    device: str = "cpu"
    processes: bool = True  # measure memory and start-up, in processes of their own
    tune: bool = False  # Segue measures its candidate plans first


@dataclass
class Contenders:
    """The callables to compare, ready to run, and sentences on what is not among them."""

    functions: dict[str, nn.Module | Callable[..., Any]]
    notes: list[str] = field(default_factory=list)


Record = dict[str, Any]


def measure_all(
    files: list[tuple[ModelFile, Options]], bar: Progress
) -> tuple[list[Record], machine.Ceilings]:
    """The records of several models, and the machine's ceilings, taken before and after each.

    A busy machine measures its ceilings too low, hence the best of all, for all.
    """
    load, busy = machine.load(), machine.busy()
    best, records = machine.ceilings(), []
    task = bar.add_task("", total=float(len(files)))
    for index, (file, options) in enumerate(files):

        def step(what: str, done: float, index: int = index, name: str = file.name) -> None:
            bar.update(task, completed=index + done, description=f"{name}: {what}")

        records.append(measure_model(file, options, step))
        best = best.or_better(machine.ceilings())
    for record in records:
        record |= {**floor(record, best), "load_before": load}
    if busy and records:
        records[0]["notes"].insert(0, busy)
    return records, best


def measure_model(file: ModelFile, options: Options, step: Step) -> Record:
    """One model's record, as --json writes it, but for the floor."""
    step("building", 0.0)
    module, inputs = file.build(), file.inputs(options.batch)
    with torch.no_grad():
        try:
            expected = module(*inputs)
        except Exception as error:
            what = f"{file.path}: Model's forward raised {describe(error, file.path)}"
            raise UserError(what) from error
        step("compiling", 0.05)
        contenders = prepare(file.name, module, inputs, options.tune)
        step("comparing", 0.2)
        record = describe_run(file, module, inputs, options)
        record |= fusion(module, inputs)
        record |= correctness(module, contenders.functions["segue"], inputs, expected)
        record["flops"], record["bytes"] = measure.work(module, inputs, expected)
        del expected
        rounds = interleave(
            {name: _call(f, inputs) for name, f in contenders.functions.items()},
            options.seconds,
            options.rounds,
            lambda done: step("timing", 0.25 + 0.35 * done),
        )
    record |= times(rounds)
    record |= host_overhead(module, inputs)
    del inputs
    if options.processes:
        record |= processes(file, options, "compile" in rounds, contenders.notes, step)
    record["notes"] = contenders.notes
    return record


def describe_run(file: ModelFile, module: nn.Module, inputs: list[Any], options: Options) -> Record:
    """What was run and on what."""
    return {
        "model": file.name,
        "device": options.device,
        "precision": precision_of(inputs),
        "shapes": [list(x.shape) for x in accuracy.tensors(inputs)],
        "batch": batch_of(inputs),
        "parameters": sum(p.numel() for p in module.parameters()),
        "threads": torch.get_num_threads(),
        "cpu": machine.cpu_name(),
        "versions": machine.versions(),
        "commit": machine.commit(),
    }


def precision_of(inputs: list[Any]) -> str:
    """The class of numbers of a run on a CPU, which is the dtype of the inputs."""
    names = {torch.float32: "fp32", torch.float64: "fp64", torch.float16: "fp16"}
    floating = [x.dtype for x in accuracy.tensors(inputs) if x.is_floating_point()]
    return names.get(floating[0], "bf16") if floating else "fp32"


def prepare(name: str, module: nn.Module, inputs: list[Any], tune: bool) -> Contenders:
    """Eager, torch.compile and Segue, each called once."""
    result = Contenders({"eager": module})
    torch.compiler.reset()
    try:
        compiled = torch.compile(copy.deepcopy(module))
        compiled(*inputs)
        result.functions["compile"] = compiled
    except Exception as error:
        reason = describe(error)
        if "C++ compiler" in str(error) or "CppCompiler" in type(error).__name__:
            reason = "it found no working C++ compiler."
        result.notes.append(f"{name}: torch.compile cannot run here: {reason}")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fused = segue.optimize(copy.deepcopy(module), *inputs, tune=tune)
        fused(*inputs)
    result.functions["segue"] = fused
    result.notes += [f"{name}: {w.message}" for w in said if _is_ours(w)]
    return result


def fusion(module: nn.Module, inputs: list[Any]) -> Record:
    """How many fused kernels run, and why none does where none does."""
    explanation = segue.explain(module, *inputs)
    return {"kernels": explanation.kernels, "left_to_pytorch": explanation.reason}


def correctness(
    module: nn.Module, fused: Callable[..., Any], inputs: list[Any], expected: Any
) -> Record:
    """Segue against eager on everything, both against float64 on a slice of the batch."""
    result = fused(*inputs)
    alike = [(t.shape, t.dtype, t.stride()) for t in accuracy.tensors(result)] == [
        (t.shape, t.dtype, t.stride()) for t in accuracy.tensors(expected)
    ]
    difference = accuracy.max_abs_diff(result, expected) if alike else None
    near = alike and accuracy.close(result, expected)
    del result
    part = float64_slice(module, inputs)
    truth = accuracy.reference(module, part)
    eager_result, fused_result = module(*part), fused(*part)
    eager_error = accuracy.relative_error(eager_result, truth)
    error = accuracy.relative_error(fused_result, truth) if alike else None
    if alike and not near:
        near = accuracy.nearer(fused_result, eager_result, truth, difference)
    good = error is not None and error <= accuracy.error_limit(eager_error, eager_result)
    return {
        "correct": bool(near and good),
        "max_abs_diff_eager": _finite(difference),
        "rel_err_fp64": _finite(error),
        "rel_err_fp64_eager": _finite(eager_error),
        "float64_batch": batch_of(part),
    }


def float64_slice(module: nn.Module, inputs: list[Any]) -> list[Any]:
    """The leading elements of the batch that float64 can do in a few seconds, one at least."""
    batch = batch_of(inputs)
    if not batch:
        return inputs
    single = measure.flops_of(module, with_batch(inputs, 1))
    return with_batch(inputs, min(batch, max(1, int(FLOAT64_FLOPS / max(single, 1.0)))))


def times(rounds: Rounds) -> Record:
    """Medians, quartiles and ratios of the rounds, in milliseconds."""
    record: Record = {"rounds": len(rounds["eager"])}
    for name in CONTENDERS:
        spread = Spread.of([s * 1e3 for s in rounds[name]]) if name in rounds else None
        record[f"{name}_ms"] = spread.median if spread else None
        record[f"{name}_ms_quartiles"] = [spread.low, spread.high] if spread else None
    for name in ("eager", "compile"):
        ratio = ratios(rounds, name, "segue") if name in rounds else None
        record[f"speedup_{name}"] = ratio.median if ratio else None
        record[f"speedup_{name}_quartiles"] = [ratio.low, ratio.high] if ratio else None
    return record


def floor(record: Record, best: machine.Ceilings) -> Record:
    """Milliseconds below which no program does this work on this machine, and how near Segue is."""
    least = best.floor_seconds(record["flops"], record["bytes"]) * 1e3
    return {
        "floor_ms": least,
        "floor_fraction": least / record["segue_ms"],
        "ceilings": asdict(best),
    }


def host_overhead(module: nn.Module, inputs: list[Any]) -> Record:
    """What a call costs beyond its work; null where PyTorch runs every small input."""
    found = measure.host_overhead(module, inputs)
    return {
        "host_us": found.host if found else None,
        "small_call_us": found.call if found else None,
        "small_call_us_eager": found.eager if found else None,
    }


def processes(
    file: ModelFile, options: Options, compiles: bool, notes: list[str], step: Step
) -> Record:
    """Peak memory and start-up, from processes of their own; null where one failed."""
    record: Record = {}
    threads = torch.get_num_threads()

    def attempt(run: Callable[[], Any]) -> Any:
        try:
            return run()
        except (measure.ProbeError, OSError) as error:
            notes.append(f"{file.name}: {error}")
            return None

    done = 0.6
    for name in ("eager", "segue"):
        step(f"memory of {TITLES[name]}", done)
        record[f"peak_mb_{name}"] = attempt(
            partial(measure.peak_megabytes, name, file.path, options.batch, threads)
        )
        done += 0.06
    for name in CONTENDERS:
        step(f"start-up of {TITLES[name]}", done)
        done += 0.1
        figures = None
        if name != "compile" or compiles:
            figures = attempt(partial(measure.startup, name, file.path, options.batch, threads))
        record |= startup_record(name, figures)
    return record


def startup_record(name: str, figures: measure.Startup | None) -> Record:
    """A contender's start-up under the names --json uses: compile_cold_s is Segue's."""
    if name == "eager":
        return {"eager_first_s": figures.cold if figures else None}
    prefix = "torch_compile" if name == "compile" else "compile"
    keys = ("cold", "warm", "cold_from_start", "warm_from_start")
    return {f"{prefix}_{key}_s": getattr(figures, key) if figures else None for key in keys}


# ---- what people see -----------------------------------------------------------------------------


def time_table(records: list[Record], title: str = "", brief: bool = False) -> Table:
    """Correctness, times and speedups; one row a model. Briefly, it fits 80 columns."""
    columns = ["model", "correct", "eager\nms", "torch.\ncompile\nms", "Segue\nms"]
    columns += ["against\neager", "against\ntorch.\ncompile"]
    table = report.table(title, columns if brief else [*columns, "floor\nms", "of\nfloor", "batch"])
    for r in records:
        cells = [r["model"], "yes" if r["correct"] else "[bold red]NO[/]"]
        cells += [_milliseconds(r, name, spread=not brief) for name in CONTENDERS]
        cells += [report.speedup(r["speedup_eager"]), report.speedup(r["speedup_compile"])]
        if not brief:
            cells += [report.number(r["floor_ms"]), f"{100 * r['floor_fraction']:.0f}%"]
            cells += [report.number(r["batch"])]
        table.add_row(*cells)
    return table


DETAILS = {
    "largest difference from eager": "max_abs_diff_eager",
    "error against float64": "rel_err_fp64",
    "eager's error": "rel_err_fp64_eager",
    "fused kernels": "kernels",
    "peak MB": "peak_mb_segue",
    "eager's peak MB": "peak_mb_eager",
    "first result, cold, s": "compile_cold_s",
    "first result, warm, s": "compile_warm_s",
    "torch.compile's, cold, s": "torch_compile_cold_s",
    "torch.compile's, warm, s": "torch_compile_warm_s",
    "eager's, s": "eager_first_s",
    "host us": "host_us",
    "small call us": "small_call_us",
    "eager's small call us": "small_call_us_eager",
}


def detail_table(records: list[Record]) -> Table:
    """Errors, memory, start-up and host overhead; one column a model."""
    table = report.table("", ["", *(r["model"] for r in records)])
    for label, name in DETAILS.items():
        if any(r.get(name) is not None for r in records):
            table.add_row(label, *(report.number(r.get(name), 2) for r in records))
    return table


def legend(best: machine.Ceilings | None = None) -> list[str]:
    """What the columns mean; those of the brief table alone when no ceilings are given."""
    text = """
    Times: median milliseconds of a call in interleaved rounds (after a sign: half of the distance
    between the quartiles); against: medians of the ratios within a round.

    Correct: shape, dtype and strides are eager's, values agree with eager's at 1e-4 (halves:
    at 1e-2, or are as near to float64 everywhere as eager's), and the relative error (norm-wise,
    against float64) is at most 1.1 times eager's or one rounding.
    """
    if best:
        rates = f"{best.flops / 1e9:.0f} GFLOP/s", f"{best.bandwidth / 1e9:.1f} GB/s"
        text += f"""

    Floor: max(operations / {rates[0]}, bytes of inputs, parameters and outputs / {rates[1]}), both
    measured here: {best.how}.

    Peak: the most memory that the first call at this size holds beyond inputs, parameters and
    outputs (resident high-water mark of a new process, after a call on one batch element).

    First result: seconds of a new process from the end of `import torch`, less building the model
    and its inputs; cold with an empty cache folder, warm with what the cold run left in it.

    Small call: median microseconds of a call on one batch element with the smallest image that the
    model accepts. Host: that less what the fused program takes by itself.
    """
    paragraphs = [p for p in text.split("\n\n") if p.strip()]
    return [" ".join(p.split()) for p in paragraphs]


def run(args: argparse.Namespace) -> int:
    """The command: measures every model, prints the tables, writes the JSON file."""
    if args.device == "cuda":
        from . import bench_cuda  # noqa: PLC0415  (which imports this module)

        return bench_cuda.run(args)
    if args.report or args.subjects or args.classes:
        raise UserError("--report, --subjects and --classes go with --device cuda.")
    report.writable(args.json)
    files = [load_with_inputs(path) for path in args.models]
    if args.threads:
        torch.set_num_threads(args.threads)
    options = Options(args.batch, args.seconds, args.repeat, args.device, not args.quick, args.tune)
    with report.progress_bar() as bar:
        records, best = measure_all([(file, options) for file in files], bar)
    if args.json:
        report.write_json(args.json, records)
    console = report.console()
    title = f"{machine.cpu_name()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
    console.print(time_table(records, title))
    console.print(detail_table(records))
    explain(console, records, legend(best))
    return 0 if all(r["correct"] for r in records) else 1


def explain(console: Console, records: list[Record], lines: list[str]) -> None:
    """Prints the records' notes and a legend."""
    for line in [*(note for r in records for note in r["notes"]), *lines]:
        console.print(line, markup=False)


def _call(function: Callable[..., Any], inputs: list[Any]) -> Callable[[], object]:
    return lambda: function(*inputs)


def _is_ours(warning: warnings.WarningMessage) -> bool:
    return "segue" in str(warning.filename).lower() or "segue" in str(warning.message).lower()


def _milliseconds(record: Record, name: str, spread: bool) -> str:
    middle = record[f"{name}_ms"]
    if middle is None or not spread:
        return report.number(middle)
    low, high = record[f"{name}_ms_quartiles"]
    return f"{report.number(middle)} ±{report.number((high - low) / 2, 2)}"


def _finite(value: float | None) -> float | None:
    """JSON has no infinity and no NaN: null, and the run is not correct."""
    return value if value is not None and math.isfinite(value) else None
