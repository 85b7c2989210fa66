"""compute-sanitizer over a sample of every family, in a process without PyTorch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gpu_cases
from segue import _core, cuda

TOOL = shutil.which("compute-sanitizer")
CHILD = Path(__file__).with_name("sanitized.py")
SAMPLE = {"memcheck": 8, "racecheck": 4, "synccheck": 2}
SECONDS = 240


def sample(family: str, count: int) -> list[gpu_cases.Case]:
    """Cases that the family takes, each of another template and not empty."""
    found: list[gpu_cases.Case] = []
    for number in range(100):
        case = gpu_cases.draw_case(family, number, number)
        if 0 in case.inputs[0][1]:
            continue
        image = case.inputs[0][1][2:]
        if gpu_cases.flops(case.template, case.inputs[0][1][0], image) > 3e7:
            continue
        try:
            case.compile(family)
        except _core.NotApplicable:
            continue
        found.append(case)
        if len(found) == count:
            break
    return found


@pytest.mark.skipif(TOOL is None, reason="compute-sanitizer is not on the PATH")
@pytest.mark.parametrize("tool", SAMPLE)
@pytest.mark.parametrize("family", gpu_cases.marked_families())
def test_sanitizer(family: str, tool: str, tmp_path: Path) -> None:
    cuda.use_nvrtc()
    cases = [gpu_cases.as_json(case, family) for case in sample(family, SAMPLE[tool])]
    assert len(cases) == SAMPLE[tool]
    request = tmp_path / "cases.json"
    request.write_text(json.dumps({"nvrtc": cuda.find_nvrtc(), "cases": cases}), encoding="utf-8")
    command = [str(TOOL), "--tool", tool, "--error-exitcode", "9", "--print-limit", "5"]
    command += ["--show-backtrace", "no"]
    done = subprocess.run(
        [*command, sys.executable, str(CHILD), _core.__file__ or "", str(request)],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert f"{len(cases)} cases ran" in done.stdout
