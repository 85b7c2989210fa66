"""`segue check MODEL.py MODEL_new.py --device cuda`: streams, graphs, devices, and the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

import pair_files
from segue import check

pytestmark = pytest.mark.sm(70)

# Eager may compute a convolution in TF32, beside which this is nothing.
ONLY_IN_FLOAT = {"broken_slightly_inaccurate"}
EVERYWHERE = [p for p in pair_files.BROKEN if p.stem not in ONLY_IN_FLOAT]
SECOND_GPU = "gpu_broken_first_device"


def marked(path: Path) -> object:
    """A parameter; what needs a second GPU is skipped without."""
    return pytest.param(path, marks=pytest.mark.devices(2) if path.stem == SECOND_GPU else ())


@pytest.mark.parametrize(
    "path", [marked(p) for p in (*pair_files.GPU_BROKEN, *EVERYWHERE)], ids=lambda p: p.stem
)
def test_the_named_point_catches(path: Path) -> None:
    """And the original, in the place of the replacement, keeps that point."""
    broken, itself = pair_files.catch(path, "cuda")
    assert broken.status == check.BROKEN, broken
    assert itself.status == check.HOLDS, itself


@pytest.mark.parametrize("path", (*pair_files.HONEST, *pair_files.GPU_HONEST), ids=lambda p: p.stem)
def test_honest_pairs_pass(path: Path) -> None:
    findings = pair_files.examine(path, "cuda")
    assert check.broken(findings) == []


def test_tf32_is_enough_where_eager_may_take_it() -> None:
    """All but the tolerance at the file's own size, where cuDNN takes float32 for so little."""
    findings = pair_files.examine(pair_files.PAIRS / "gpu_tf32.py", "cuda")
    broken = {(f.group, f.point) for f in check.broken(findings)}
    assert broken <= {("own size", "fresh inputs as the file draws them")}
