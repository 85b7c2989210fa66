"""Files of `segue compile` on a GPU: built and run in processes that cannot import Segue."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import segue
from segue import cli
from segue.modelfile import load_with_inputs

TESTS = Path(__file__).resolve().parents[1]
MODELS = [
    *sorted((TESTS.parent / "examples").glob("*.py")),
    TESTS / "models" / "conv3d_groups_gate.py",
    TESTS / "models" / "two_regions.py",
    TESTS / "models" / "pointwise_chain.py",
]
SECONDS = 300


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each child found, or what it printed when it failed. All are built at once."""
    folder = tmp_path_factory.mktemp("emitted")
    started = {}
    for path in MODELS:
        new = folder / path.name
        assert cli.main(["compile", str(path), "-o", str(new)]) == 0
        result = folder / f"{path.stem}.pt"
        words = [sys.executable, str(TESTS / "emitted_child.py"), "cuda", str(result), str(new)]
        environment = {"TORCH_EXTENSIONS_DIR": str(folder / "built"), **os.environ, "MAX_JOBS": "2"}
        environment.pop("PYTHONPATH", None)
        child = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        started[path.stem] = child, result
    found: dict[str, Any] = {}
    for name, (child, result) in started.items():
        said, _ = child.communicate(timeout=SECONDS)
        found[name] = torch.load(result) if child.returncode == 0 else said
    return found


@pytest.mark.sm(80)
@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_emitted(path: Path, reports: dict[str, Any]) -> None:
    report = reports[path.stem]
    assert isinstance(report, dict), report
    assert max(report["apart"]) <= 1, report["apart"]
    assert report["stream"], "another stream gave other results"
    assert report["graph"], "a CUDA graph gave other results"
    # PyTorch may choose another class of numbers at other sizes than the file holds.
    assert max(report["sizes"].values()) <= 20, report["sizes"]
    same_nan, far = report["special"]
    assert same_nan, "NaN"
    assert far <= 2e-3, f"huge inputs: {far}"
    assert report["gradients"]


@pytest.mark.sm(80)
@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_equal_to_optimize(path: Path, reports: dict[str, Any]) -> None:
    """One artifact: the file and `segue.optimize` give the same bits at the file's own sizes."""
    file = load_with_inputs(path).on("cuda")
    report = reports[path.stem]
    assert isinstance(report, dict), report
    with torch.no_grad():
        for seed, outputs in enumerate(report["outputs"][:2]):
            with torch.device("cuda"):
                torch.manual_seed(seed)
                module = file.construct(file.init_inputs()).eval()
                inputs = file.inputs(seed=100 + seed)
            fast = segue.optimize(module, *inputs, fallback="error")
            assert torch.equal(fast(*inputs).cpu(), outputs[0])
