"""bench/harness.py: accepts an honest pair and refuses a broken one, without Segue."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pair_files

HARNESS = Path(__file__).resolve().parents[2] / "bench" / "harness.py"


def run(new: str) -> subprocess.CompletedProcess[str]:
    path = pair_files.PAIRS / f"{new}.py"
    files = [str(pair_files.original(path)), str(path)]
    options = ["--device", "cpu", "--seeds", "2", "--trials", "3"]
    return subprocess.run(
        [sys.executable, str(HARNESS), *files, *options],
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_honest_pair() -> None:
    done = run("honest_rewrite")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 seeds agree within 0.0001" in done.stdout
    assert "median of 3: Model " in done.stdout


def test_a_broken_pair() -> None:
    done = run("broken_dropped_bias")
    assert done.returncode == 1
    assert "0 of 2 seeds agree" in done.stdout
    assert "elements differ" in done.stdout


def test_it_stands_alone() -> None:
    tree = ast.walk(ast.parse(HARNESS.read_text()))
    imported = {n.module for n in tree if isinstance(n, ast.ImportFrom)}
    tree = ast.walk(ast.parse(HARNESS.read_text()))
    imported |= {alias.name for n in tree if isinstance(n, ast.Import) for alias in n.names}
    assert {name.split(".")[0] for name in imported if name} & {"segue"} == set()
    assert "torch" in imported
