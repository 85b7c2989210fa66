"""The C unit tests, each in a process of its own: a crash is one failed test."""

import signal
import subprocess
from pathlib import Path

import pytest

UNIT_SECONDS = 300


def test_c_unit(c_unit: tuple[Path, str]) -> None:
    program, name = c_unit
    result = subprocess.run(
        [program, name], capture_output=True, text=True, timeout=UNIT_SECONDS, check=False
    )
    if result.returncode:
        said = result.stdout + result.stderr
        if result.returncode < 0:
            said += f"killed by {signal.Signals(-result.returncode).name}\n"
        pytest.fail(said, pytrace=False)
