"""What an emitted file says of itself at its top: what was fused, the floor, what was measured."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

import segue

from .emit_source import Source, needed_modules
from .modelfile import ModelFile, UserError
from .precision import FP32, TF32

if TYPE_CHECKING:
    from .emit import Subject
    from .emit_plan import Wanted

_WIDTH = 100
_CLASSES = {
    FP32: "class fp32: as exact as float32 products and sums",
    TF32: "class tf32: operands rounded to 11 bits, halves away from zero; float32 sums",
    "tf32_even": "class tf32_even: operands rounded to 11 bits, halves to even; float32 sums",
}


@dataclass(frozen=True)
class Figures:
    """One model's record of `segue bench --device cuda`, or of bench/emitted.py."""

    record: dict[str, Any]
    path: str

    @property
    def precision(self) -> str | None:
        """The class that PyTorch used, and Segue with it."""
        found: str | None = self.record.get("precision")
        return found

    def said(self, shapes: list[list[int]]) -> str:
        """Milliseconds, if the record is of these sizes; else that there are none."""
        r = self.record
        if r.get("shapes") != shapes:
            return f"nothing at these sizes; {self.path} holds others"
        subjects = r["subjects"]
        words = []
        if "emitted" in subjects:
            words.append(f"{subjects['emitted']['ms']:.3f} ms, this file")
        if "segue" in subjects:
            words.append(f"{subjects['segue']['ms']:.3f} ms, segue.optimize")
        words.append(f"{subjects['eager']['ms']:.2f} ms, PyTorch")
        compiled = [
            subjects[n]["ms"] for n in subjects if n == "compile" or n.startswith("max_autotune")
        ]
        if compiled:
            words.append(f"{min(compiled):.2f} ms, torch.compile at its best")
        versions = r.get("versions", {})
        where = f"{r['gpu']}, PyTorch {versions.get('torch', 'unknown')}, Segue {r.get('commit')}"
        return f"{'; '.join(words)} ({where})"

    def floor(self, shapes: list[list[int]]) -> str:
        """The card's rates, and what follows from them."""
        r = self.record
        if r.get("shapes") != shapes or "floor_ms" not in r:
            return ""
        best = r["ceilings"]
        return (
            f"; {r['floor_ms']:.3f} ms at the {best['half'] / 1e12:.0f} TFLOP/s of half products "
            f"and {best['bandwidth'] / 1e12:.1f} TB/s that one {r['gpu']} reached"
        )


def read(path: str, name: str) -> Figures | None:
    """The record of a model in a file of results; None where it holds none."""
    try:
        records = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: holds no results ({error}).") from None
    if not isinstance(records, list):
        raise UserError(f"{path}: holds no list of results, as `segue bench --report` writes it.")
    found = [r for r in records if r.get("model") == name and r.get("device") == "cuda"]
    return Figures(found[-1], path) if found else None


def title(
    subject: Subject, source: Source, wanted: Wanted, figures: Figures | None, command: str
) -> str:
    """The docstring of the file."""
    inputs = [x for x in subject.arguments.values() if isinstance(x, Tensor)]
    shapes = [list(x.shape) for x in inputs]
    entries = [
        ("Fused", fused(subject)),
        *([("By PyTorch", left)] if (left := by_pytorch(subject)) else []),
        ("Floor", floor(subject, inputs) + (figures.floor(shapes) if figures else "")),
        ("Measured", figures.said(shapes) if figures else "nothing"),
        ("Numbers", numbers(subject)),
        ("Needs", needs(subject, source, wanted)),
        ("Otherwise", OTHERWISE),
        ("Written by", f"{command} (Segue {segue.__version__})"),
    ]
    count = len(subject.functions)
    kernels = "one kernel" if count == 1 else f"{count} kernels"
    lines = [f'"""{source.title or subject.file.name}, in {kernels}.', ""]
    own = subject.file.model.__name__
    lines += textwrap.wrap(
        f"ModelNew takes the place of {own} in {subject.file.path.name}: the same constructor, "
        "parameters, forward() and results, for any batch and image size.",
        _WIDTH,
    )
    lines.append("")
    lines += _entries(entries)
    return "\n".join(lines) + '\n"""'


def plain_title(file: ModelFile, source: Source, reason: str, command: str) -> str:
    """The docstring of a file in which nothing is fused."""
    lines = [f'"""{source.title or file.name}: nothing is fused.', ""]
    lines += _entries(
        [("Because", reason), ("Written by", f"{command} (Segue {segue.__version__})")]
    )
    return "\n".join(lines) + '\n"""'


def _entries(entries: list[tuple[str, str]]) -> list[str]:
    lines = []
    for name, text in entries:
        lines += textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=f"{name + ':':<12}",
            subsequent_indent=" " * 12,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


OTHERWISE = (
    "Model's own operators run: for CPU tensors, where a gradient is wanted, inside torch.compile, "
    "torch.export, autocast and transforms; and where something else does not fit, with a warning"
)


def fused(subject: Subject) -> str:
    """Each kernel's operators."""
    return "; ".join(f"{', '.join(f.operators)} ({f.name})" for f in subject.functions)


def by_pytorch(subject: Subject) -> str:
    """Operators that no kernel takes; "" where there are none."""
    left = [
        n.target._schema.name.split("::")[-1].strip("_")
        for step in subject.plan.steps
        if step.region is None
        for n in step.nodes
    ]
    return ", ".join(dict.fromkeys(left))


def floor(subject: Subject, inputs: list[Tensor]) -> str:
    """Work of the kernels at the file's own sizes."""
    flops = moved = 0.0
    for compiled in subject.plan.regions:
        work = compiled.program.work()
        flops, moved = flops + work["flops"], moved + work["bytes"]
    sizes = ", ".join(f"{str(x.dtype)[6:]}[{', '.join(map(str, x.shape))}]" for x in inputs)
    return f"{flops / 1e9:.3g} GFLOP and {moved / 1e6:.3g} MB a call for {sizes}"


def numbers(subject: Subject) -> str:
    """The classes of the kernels' convolutions."""
    classes = dict.fromkeys(f.precision for f in subject.functions if f.precision)
    said = [_CLASSES[c] for c in classes]
    return "; ".join(said) or "every operator as exact as PyTorch's"


def needs(subject: Subject, source: Source, wanted: Wanted) -> str:
    """Versions and hardware."""
    others = needed_modules(source)
    also = f"; {', '.join(others)}, as the model itself" if others else ""
    fast = wanted.gpu is not None and "wgmma" in subject.kernels
    path = "; CUDA 12.0 for the fast path on an H100 or H200" if fast else ""
    return f"PyTorch 2.0, nvcc of CUDA 11.8, a GPU from sm_80 on{path}{also}"


__all__ = ["Figures", "plain_title", "read", "title"]
