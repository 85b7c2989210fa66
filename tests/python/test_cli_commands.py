"""The small commands, and the command line as a program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from segue import check, cli, contract, doctor, machine

MODEL = """
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return torch.relu(self.conv(x)) * 2


def get_inputs():
    return [torch.rand(2, 3, 12, 14)]
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.py"
    path.write_text(MODEL)
    return path


def test_explain(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    assert cli.main(["explain", str(model), "--batch", "3"]) == 0
    said = capsys.readouterr().out
    assert "small" in said
    assert "[3, 3, 12, 14]" in said
    assert "convolution" in said
    assert "relu" in said


def test_doctor(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert cli.main(["doctor", "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert torch.__version__ in said
    found = json.loads(out.read_text())
    assert set(found["facts"]) >= {"processor", "PyTorch", "library", "GPU"}
    assert isinstance(found["problems"], list)


def test_doctor_sees_too_many_threads() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(machine.usable_processors() + 1)
        assert any("threads on" in p for p in doctor.diagnose().problems)
        torch.set_num_threads(machine.usable_processors())
        assert not any("threads on" in p for p in doctor.diagnose().problems)
    finally:
        torch.set_num_threads(before)


def test_check_of_optimize(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    out = tmp_path / "out.json"
    status = cli.main(["check", str(model), "--json", str(out)])
    said = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert [p for p in found["points"] if p["status"] == check.BROKEN] == []
    assert status == 0
    assert found["passed"] is True
    assert len(found["points"]) == len(contract.POINTS)
    assert all(point["point"] in said for point in found["points"])


def test_check_of_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    new, out = tmp_path / "new.py", tmp_path / "out.json"
    new.write_text(MODEL.replace("* 2", "* 2.001").replace("class Model(", "class ModelNew("))
    assert cli.main(["check", str(model), str(new), "--json", str(out)]) == 1
    found = json.loads(out.read_text())
    broken = {p["point"] for p in found["points"] if p["status"] == check.BROKEN}
    assert "fresh inputs as the file draws them" in broken
    assert "forward takes the same arguments" not in broken
    assert found["passed"] is False
    assert "BROKEN" in capsys.readouterr().out


def test_as_a_program(tmp_path: Path, model: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "segue", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )

    good = run("explain", model.name)
    assert (good.returncode, good.stderr) == (0, "")
    bad = run("check", "gone.py")
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert bad.stderr == "segue: gone.py: there is no such file.\n"


def test_cache(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    monkeypatch.setenv("SEGUE_CACHE_DIR", str(folder))
    assert cli.main(["cache", "ls"]) == 0
    assert f"{folder}: nothing is kept." in capsys.readouterr().out
    folder.mkdir()
    (folder / "old.wisdom").write_text("12345")
    (folder / "another.txt").write_text("not ours")
    assert cli.main(["cache", "ls"]) == 0
    said = capsys.readouterr().out
    assert "old.wisdom" in said
    assert "another.txt" not in said
    assert cli.main(["cache", "clear"]) == 0
    assert "1 file removed" in capsys.readouterr().out
    assert [p.name for p in folder.iterdir()] == ["another.txt"]


def test_doctor_sees_a_cache_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEGUE_CACHE_DIR", str(tmp_path / "file"))
    assert any("SEGUE_CACHE_DIR" in p for p in doctor.diagnose().problems)
    monkeypatch.setenv("SEGUE_CACHE_DIR", str(tmp_path / "new"))
    assert not any("SEGUE_CACHE_DIR" in p for p in doctor.diagnose().problems)


def test_doctor_sees_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "load", lambda: 1000.0)
    assert any("load average 1000.0" in p for p in doctor.diagnose().problems)
    monkeypatch.setattr(machine, "load", lambda: 0.1)
    assert not any("load average" in p for p in doctor.diagnose().problems)
