"""How exact? Errors against float64 of Segue, eager PyTorch and torch.compile, by class and data.

For each class of numbers and each kind of data, some convolutions with tails (the four examples at
reduced size among them) run by all three; Segue's drop-ins run fused whatever is faster. Errors
are norm-wise and relative. A row is the geometric mean over the models, and the ratio of Segue's
error to eager's where it is largest. Of float64 there is no more exact truth to be had.

    python bench/errors.py [--device cpu|cuda] [--classes fp32,fp16] [--no-compile] [--write FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import math
import statistics
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segue import accuracy, machine
from segue.dropin import make_dropin
from segue.modelfile import load
from segue.prepare import DropIn
from segue.programs import Options
from segue.state import RUNTIME

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SUBJECTS = ("Segue", "eager", "torch.compile")
LEAST = 1e-3  # of a rounding of the result: an error below is none


# ---- classes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Class:
    """A class of numbers: the dtype of all tensors, and whether TF32 is allowed."""

    dtype: torch.dtype
    tf32: bool = False
    decades: int = 4  # how far "mixed" reaches to either side
    scale: float = 1e30  # "huge", and its reciprocal "tiny"


ON_CPU = {
    "fp32": Class(torch.float32),
    "fp16": Class(torch.float16, decades=1, scale=1e2),
    "bf16": Class(torch.bfloat16),
}
ON_GPU = {
    "fp32 (TF32 off)": ON_CPU["fp32"],
    "TF32 allowed": Class(torch.float32, tf32=True),
    "fp16": ON_CPU["fp16"],
    "bf16": ON_CPU["bf16"],
}


# ---- data --------------------------------------------------------------------------------------


def _mixed(x: Tensor, kind: Class) -> Tensor:
    return x * 10.0 ** ((torch.rand_like(x) * 2 - 1) * kind.decades)


def _paired(x: Tensor, sign: float = 1.0) -> Tensor:
    """Channels in pairs, drawn alike for all tensors: one of a pair is a copy of the other."""
    made, channels = x.clone(), x.shape[1]
    order = torch.randperm(channels, generator=torch.Generator().manual_seed(channels))
    pairs = channels // 2
    made[:, order[:pairs]] = sign * x[:, order[pairs : 2 * pairs]]
    return made


def change(data: str, x: Tensor, kind: Class) -> Tensor:
    """Normal numbers made into a kind of data."""
    if data == "positive":
        return x.abs()
    if data == "tiny":
        return x / kind.scale
    if data == "huge":
        return x * kind.scale
    if data == "mixed":
        return _mixed(x, kind)
    return _paired(x) if data == "cancelling" else x


DATA = ("random", "positive", "tiny", "huge", "mixed", "cancelling")


def set_weights(module: nn.Module, data: str) -> None:
    """Weights as data calls for: those that cancel are opposite in pairs, but for a thousandth."""
    if data != "cancelling":
        return
    for parameter in module.parameters():
        if parameter.dim() > 2:
            rest = torch.randn_like(parameter) * 1e-3 * parameter.abs().mean()
            parameter.data = _paired(parameter.data, -1.0) + rest


# ---- models ------------------------------------------------------------------------------------


class Chain(nn.Module):
    """A convolution without bias, and a tail."""

    def __init__(self, convolution: nn.Module, tail: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.convolution = convolution
        self.tail = tail

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *image) to what the tail makes of it."""
        return self.tail(self.convolution(x))


def models(batch: int, size: int) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Names, modules and inputs in float64, drawn from seeds."""
    for path in sorted(EXAMPLES.glob("*.py")):
        file = load(path)
        torch.manual_seed(0)
        (x,) = file.inputs(1)
        yield path.stem, file.build(), torch.randn(batch, *x.shape[1:-2], size, size)
    own = {
        "pointwise, relu": (nn.Conv2d(64, 96, 1, bias=False), torch.relu),
        "5x5 strided, mean": (
            nn.Conv2d(32, 48, 5, stride=2, padding=2, bias=False),
            lambda y: (y * 0.5).mean((2, 3)),
        ),
        "256 channels, leaky relu": (
            nn.Conv2d(256, 64, 3, padding=1, bias=False),
            nn.functional.leaky_relu,
        ),
        "depthwise, abs": (nn.Conv2d(64, 64, 3, groups=64, bias=False), torch.abs),
    }
    for name, (convolution, tail) in own.items():
        torch.manual_seed(1)
        nn.init.normal_(convolution.weight, std=0.1)
        channels = convolution.in_channels
        yield name, Chain(convolution, tail), torch.randn(batch, channels, size, size)


# ---- measuring ---------------------------------------------------------------------------------


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """With PyTorch's switches for convolutions and products set."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def errors_of(
    module: nn.Module, x: Tensor, kind: Class, device: str, compiles: bool
) -> dict[str, dict[str, float]]:
    """Errors of each subject for each kind of data."""
    made = copy.deepcopy(module).to(device, kind.dtype)
    fused = make_dropin(made, Options(always=True), "silent")
    subjects: dict[str, Callable[[Tensor], Any]] = {"Segue": fused, "eager": made}
    if compiles:
        subjects["torch.compile"] = torch.compile(made)
    found: dict[str, dict[str, float]] = {}
    for data in DATA:
        torch.manual_seed(zlib.crc32(data.encode()))
        made.load_state_dict(module.state_dict())
        set_weights(made, data)
        given = change(data, x.double(), kind).to(device, kind.dtype)
        truth = accuracy.reference(made, [given])
        found[data] = {}
        for name, subject in subjects.items():
            with torch.no_grad():
                result = subject(given)
            found[data][name] = accuracy.relative_error(result, truth)
        demand_fused(fused, str(module))
    torch.compiler.reset()
    return found


def demand_fused(dropin: nn.Module, what: str) -> None:
    """Errors of what PyTorch ran would say nothing of Segue."""
    entries = dropin.__dict__[RUNTIME].calls.entries if isinstance(dropin, DropIn) else []
    if not entries or (entries[0].program is None and entries[0].runner is None):
        raise SystemExit(f"{what} does not run fused: {dropin.__dict__[RUNTIME].reason}")


def rows_of(
    name: str, kind: Class, device: str, compiles: bool, batch: int, size: int
) -> list[list[str]]:
    """Rows of the table: one for each kind of data."""
    with tf32(kind.tf32):
        found = {
            model: errors_of(module, x, kind, device, compiles)
            for model, module, x in models(batch, size)
        }
    least = LEAST * torch.finfo(kind.dtype).eps
    rows = []
    for data in DATA:
        cells = []
        for subject in SUBJECTS:
            every = [each[data].get(subject) for each in found.values()]
            known = [max(e, least) for e in every if e is not None]
            cells.append(_figure(statistics.geometric_mean(known)) if known else "-")
        ratios = {m: ratio(each[data], kind.dtype) for m, each in found.items()}
        worst = max(ratios, key=lambda m: ratios[m])
        middle = statistics.median(ratios.values())
        rows.append([name, data, *cells, f"{middle:.2f}", f"{ratios[worst]:.2f} ({worst})"])
    return rows


def ratio(errors: dict[str, float], dtype: torch.dtype) -> float:
    """Segue's error over eager's; below a rounding of the result both are right."""
    rounding = torch.finfo(dtype).eps / 2
    if errors["Segue"] <= rounding:
        return min(1.0, errors["Segue"] / max(errors["eager"], LEAST * rounding))
    return errors["Segue"] / errors["eager"] if errors["eager"] else math.inf


def _figure(error: float) -> str:
    return f"{error:.1e}".replace("e-0", "e-")


def markdown(rows: list[list[str]], device: str) -> str:
    """The table, its title above."""
    where = machine.gpu_name() if device == "cuda" else machine.cpu_name()
    heads = ["class", "numbers", *SUBJECTS, "Segue / eager, median", "largest"]
    lines = [f"{where}, PyTorch {torch.__version__}, commit {machine.commit()}:", ""]
    lines += [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--classes", help="names, with commas between; all that are not named go")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, help="pixels along rows and columns (32; GPUs 64)")
    parser.add_argument("--write", metavar="FILE", help="where to write the table as Markdown")
    args = parser.parse_args()
    known = ON_GPU if args.device == "cuda" else ON_CPU
    wanted = args.classes.split(",") if args.classes else list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        parser.error(f"--classes: {unknown[0]!r} is none of {', '.join(known)}")
    size = args.size or (64 if args.device == "cuda" else 32)
    rows: list[list[str]] = []
    for name in wanted:
        rows += rows_of(name, known[name], args.device, not args.no_compile, args.batch, size)
    text = markdown(rows, args.device)
    print(text, end="")
    if args.write:
        Path(args.write).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
