"""The pairs in tests/pairs: which original a file replaces and which point catches it.

The first lines of a broken file say what is wrong, "Caught by: POINT" and, unless it is
conv_min_scale, "Original: NAME". Files called gpu_* are for GPUs.
"""

from __future__ import annotations

import ast
from pathlib import Path

from segue import check, contract
from segue.modelfile import load, load_with_inputs, on_device

PAIRS = Path(__file__).resolve().parent / "pairs"
BROKEN = sorted(PAIRS.glob("broken_*.py"))
GPU_BROKEN = sorted(PAIRS.glob("gpu_broken_*.py"))
HONEST = sorted(PAIRS.glob("honest_*.py"))
GPU_HONEST = sorted(PAIRS.glob("gpu_honest_*.py"))


def said(path: Path, what: str, default: str = "") -> str:
    """What the docstring of a pair's file says after "WHAT: "."""
    lines = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()
    found = [line.removeprefix(f"{what}: ") for line in lines if line.startswith(f"{what}: ")]
    return found[0] if found else default


def original(path: Path) -> Path:
    """The model file that a pair's file replaces."""
    return PAIRS / f"{said(path, 'Original', 'conv_min_scale')}.py"


def subject(model: Path, new: Path, device: str = "cpu") -> contract.Subject:
    """What `segue check model new` examines; a model may be its own replacement."""
    file = on_device(load_with_inputs(model), device)
    made = file if new == model else load(new, classes=("ModelNew",))
    return contract.Subject(file, check.from_file(file, made), 2, new=made)


def examine(path: Path, device: str = "cpu") -> list[check.Finding]:
    """Every point, for a file and its original."""
    return check.examine(subject(original(path), path, device))


def point(path: Path) -> contract.Point:
    """The point that catches a broken file; "(own size)" names the one of that group."""
    name = said(path, "Caught by")
    bare = name.removesuffix(" (own size)")
    own = name != bare
    return next(
        p for p in contract.POINTS if p.name == bare and (p.group == contract.own_size.GROUP) == own
    )


def catch(path: Path, device: str = "cpu") -> tuple[check.Finding, check.Finding]:
    """How the named point ends for a broken file, and for its original in its place."""
    model, tried = original(path), point(path)
    broken = check.examine_point(tried, subject(model, path, device))
    return broken, check.examine_point(tried, subject(model, model, device))
