"""`segue check`: a replacement against the contract of a drop-in, point by point.

The points are in segue.contract. Each runs on its own and ends in one of three ways: it holds, it
is broken (with the sentence that says how), or it says nothing about this model.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table
from torch import nn

import segue

from . import contract, machine, report
from .modelfile import ModelFile, UserError, describe, load, load_with_inputs, on_device

HOLDS, BROKEN, INAPPLICABLE = "holds", "broken", "does not apply"
MARKS = {HOLDS: "[green]holds[/]", BROKEN: "[bold red]BROKEN[/]", INAPPLICABLE: "[dim]-[/]"}


@dataclass(frozen=True)
class Finding:
    """How one point ended."""

    group: str
    point: str
    status: str
    detail: str
    seconds: float
    notes: list[str] = field(default_factory=list)  # what the replacement warned of


def examine(
    subject: contract.Subject, told: Callable[[str, float], None] | None = None
) -> list[Finding]:
    """Runs every point; `told` hears which one is next and the fraction done."""
    findings = []
    for index, point in enumerate(contract.POINTS):
        if told:
            told(f"{point.group}: {point.name}", index / len(contract.POINTS))
        findings.append(examine_point(point, subject))
    return findings


def examine_point(point: contract.Point, subject: contract.Subject) -> Finding:
    """Runs one point. Whatever it raises, other than for a useless file, breaks it."""
    start = time.perf_counter()
    torch.manual_seed(0)
    subject.forget_pair()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            status, detail = HOLDS, point.test(subject)
        except contract.InapplicableError as reason:
            status, detail = INAPPLICABLE, str(reason)
        except contract.BrokenError as how:
            status, detail = BROKEN, str(how)
        except UserError:
            raise
        except Exception as error:
            status, detail = BROKEN, f"raised {describe(error)}"
    seconds = time.perf_counter() - start
    notes = [str(w.message) for w in said if w.category.__name__ == "SegueWarning"]
    if subject.new:  # "ModelNew runs the original operators": what holds then says little
        notes += [str(w.message) for w in said if subject.new.model.__name__ in str(w.message)]
    return Finding(point.group, point.name, status, detail, seconds, notes)


def optimized(module: nn.Module, inputs: Sequence[Any]) -> nn.Module:
    """What `segue check MODEL.py` examines."""
    return segue.optimize(module, *inputs)


def from_file(file: ModelFile, new: ModelFile) -> Callable[[nn.Module, Sequence[Any]], nn.Module]:
    """What `segue check MODEL.py NEW.py` examines: the new class with the original's values."""

    def make(module: nn.Module, _: Sequence[Any]) -> nn.Module:
        torch.manual_seed(0)
        made = new.construct(file.init_inputs()).to(file.device)
        reference = next((t for t in module.state_dict().values() if t.is_floating_point()), None)
        if reference is not None:
            made = made.to(reference.dtype).to(reference.device)
        made.load_state_dict(module.state_dict(), strict=False)  # names are a point of their own
        for name, p in module.named_parameters():
            if p.dim() >= 4 and not p.is_contiguous():
                own = dict(made.named_parameters()).get(name)
                if own is not None:
                    own.data = p.data.clone()
        return made.train(module.training)

    return make


def run(args: argparse.Namespace) -> int:
    """The command: prints the table, writes the JSON file; 0 when every point holds."""
    report.writable(args.json)
    file = on_device(load_with_inputs(args.model), args.device)
    if args.new:
        new = on_device(load(args.new, classes=("ModelNew", "Model")), args.device)
        subject = contract.Subject(file, from_file(file, new), args.batch or 2, new=new)
        label = f"{args.new} for {args.model}"
    else:
        subject = contract.Subject(file, optimized, args.batch or 2)
        label = f"segue.optimize of {args.model}"
    subject.inputs()  # a model that cannot run is the file's fault, not the replacement's
    with report.progress_bar() as bar:
        task = bar.add_task(file.name, total=1.0)
        findings = examine(
            subject,
            lambda what, done: bar.update(task, completed=done, description=what),
        )
        fused = [] if args.new else fusion(subject)
    if args.json:
        report.write_json(args.json, as_json(args.model, args.new, findings, fused))
    show(label, findings, fused)
    return 1 if broken(findings) else 0


def broken(findings: list[Finding]) -> list[Finding]:
    """The points that the replacement breaks."""
    return [f for f in findings if f.status == BROKEN]


def fusion(subject: contract.Subject) -> list[str]:
    """What of the model Segue runs at the sizes examined: PyTorch against itself proves nothing."""
    said = []
    for inputs in (subject.inputs(), subject.full_image()):
        explanation = segue.explain(subject.file.build(), *inputs)
        sizes = ", ".join(str(list(x.shape)) for x in inputs if hasattr(x, "shape"))
        kernels = f"{explanation.kernels} fused kernel{'' if explanation.kernels == 1 else 's'}"
        who = kernels if explanation.kernels else f"PyTorch runs all of it: {explanation.reason}"
        said.append(f"{sizes}: {who}.")
    return list(dict.fromkeys(said))


def as_json(
    model: str, new: str | None, findings: list[Finding], fused: list[str]
) -> dict[str, Any]:
    """What --json writes."""
    return {
        "model": model,
        "new": new,
        "passed": not broken(findings),
        "fused": fused,
        "counts": dict(Counter(f.status for f in findings)),
        "points": [asdict(f) for f in findings],
        "cpu": machine.cpu_name(),
        "gpu": machine.gpu_name(),
        "threads": torch.get_num_threads(),
        "versions": machine.versions(),
        "commit": machine.commit(),
    }


def show(label: str, findings: list[Finding], fused: list[str]) -> None:
    """Prints the table and one sentence."""
    console = report.console()
    console.print(_table(label, findings))
    counts = Counter(f.status for f in findings)
    for line in fused:
        console.print(line, markup=False)
    for note in dict.fromkeys(note for f in findings for note in f.notes):
        console.print(f"Meanwhile: {note}", markup=False)
    console.print(
        f"{counts[HOLDS]} points hold, {counts[BROKEN]} are broken, "
        f"{counts[INAPPLICABLE]} do not apply. Errors are norm-wise and relative, against the "
        "original in float64; at most 1.1 times eager's is as good, or one rounding of the result.",
        markup=False,
    )


def _table(label: str, findings: list[Finding]) -> Table:
    table = report.table(label, ["", "point", "", "remark"], left=4)
    last = ""
    for finding in findings:
        if finding.group != last and last:
            table.add_section()
        table.add_row(
            finding.group if finding.group != last else "",
            finding.point,
            MARKS[finding.status],
            escape(finding.detail),
        )
        last = finding.group
    return table
