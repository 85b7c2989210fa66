"""Tails as gen/cuda writes them, compiled for the host and run on random graphs.

No GPU is needed to know whether a text means what its graph means; tests/cuda/host_tile.h stands in
for a skeleton.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

CASES = 250
HEADERS = Path(__file__).resolve().parents[1] / "cuda"


@pytest.fixture(scope="module")
def compiler() -> str:
    """A C++ compiler; the library itself needs none."""
    found = shutil.which("c++") or shutil.which("g++")
    if not found:
        pytest.skip("there is no C++ compiler")
    return found


@pytest.mark.parametrize("which", [1, 2])
def test_tails_agree_with_float64(
    which: int, build_dir: Path, compiler: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    seed = which + 1000 * pytestconfig.getoption("--seed")
    writer = build_dir / "segue_tail_cases"
    text = subprocess.run([writer, str(seed), str(CASES)], capture_output=True, check=True).stdout
    source, binary = tmp_path / "cases.cpp", tmp_path / "cases"
    source.write_bytes(text)
    command = [compiler, "-std=c++17", "-O0", f"-I{HEADERS}", "-o", str(binary), str(source)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[:4000]
    ran = subprocess.run([binary], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stdout
