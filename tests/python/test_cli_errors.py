"""What the user gets wrong: one sentence on standard error, status 2, nothing half-written."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue import cli, report
from segue.modelfile import UserError

GOOD = """
import torch
from torch import nn


class Model(nn.Module):
    def forward(self, x):
        return x + 1


def get_inputs():
    return [torch.rand(2, 3)]
"""

BAD_FILES = {
    "no Model": ("def get_inputs():\n    return []\n", "defines no class Model"),
    "no get_inputs": (GOOD.partition("def get_inputs")[0], "defines no function get_inputs()"),
    "Model is no module": ("class Model:\n    pass\n", "not a subclass of torch.nn.Module"),
    "raises": ("x = 1\nraise ValueError('no luck')\n", "ValueError on line 2: no luck"),
    "exits": ("import sys\nsys.exit(3)\n", "SystemExit on line 2"),
    "syntax": ("x = 1\ndef f(:\n", "SyntaxError on line 2"),
    "missing import": ("import surely_not_there\n", "ModuleNotFoundError on line 1"),
    "bad constructor": (
        GOOD.replace(
            "    def forward", "    def __init__(self, n):\n        pass\n\n    def forward"
        ),
        "Model(...) raised TypeError",
    ),
    "bad inputs": (GOOD.replace("[torch.rand(2, 3)]", "3"), "get_inputs() must return a list"),
    "raising inputs": (GOOD.replace("[torch", "1 / 0, [torch"), "ZeroDivisionError on line"),
    "raising forward": (GOOD.replace("x + 1", "x @ x"), "Model's forward raised RuntimeError"),
}


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The sentence on standard error."""
    assert cli.main([str(a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("segue: ")
    assert err.endswith(".\n")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "good.py"
    path.write_text(GOOD)
    return path


@pytest.mark.parametrize("command", ["bench", "check", "explain"])
def test_missing_file(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
    assert f"{tmp_path}/gone.py: there is no such file" in refused(
        capsys, command, tmp_path / "gone.py"
    )
    assert "is not a file" in refused(capsys, command, tmp_path)


@pytest.mark.parametrize("command", ["bench", "check"])
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, name: str
) -> None:
    source, sentence = BAD_FILES[name]
    path = tmp_path / "bad.py"
    path.write_text(source)
    said = refused(capsys, command, path, "--json", tmp_path / "out.json")
    assert str(path) in said
    assert sentence in said
    assert list(tmp_path.glob("*.json*")) == []


def test_not_python(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "model.txt"
    path.write_text("hello")
    assert "is not a Python file" in refused(capsys, "bench", path)


def test_new_file_without_a_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path
) -> None:
    (tmp_path / "new.py").write_text("")
    said = refused(capsys, "check", model, tmp_path / "new.py")
    assert "new.py: defines no class ModelNew or Model" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--batch", "0"], "'0' is not a whole number above zero"),
        (["--batch", "two"], "'two' is not a whole number above zero"),
        (["--batch", "-3"], "'-3' is not a whole number above zero"),
        (["--device", "tpu"], "invalid choice: 'tpu'"),
        (["--device", "cuda"], "finds no GPU"),
        (["--surely", "1"], "unrecognized arguments"),
        (["--json", "/surely/not/there.json"], "there is no folder /surely/not"),
    ],
)
@pytest.mark.parametrize("command", ["bench", "check"])
def test_bad_option(
    capsys: pytest.CaptureFixture[str],
    model: Path,
    command: str,
    arguments: list[str],
    sentence: str,
) -> None:
    assert sentence in refused(capsys, command, model, *arguments)


@pytest.mark.parametrize("value", ["0", "nan", "inf", "soon"])
def test_bad_seconds(capsys: pytest.CaptureFixture[str], model: Path, value: str) -> None:
    assert "number of seconds above zero" in refused(capsys, "bench", model, "--seconds", value)


def test_json_into_a_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path
) -> None:
    assert "is a folder" in refused(capsys, "check", model, "--json", tmp_path)


def test_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert "required" in refused(capsys)
    assert "invalid choice: 'paint'" in refused(capsys, "paint")
    assert "invalid choice: 'fill'" in refused(capsys, "cache", "fill")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--help"])
    assert exit_.value.code == 0
    said = capsys.readouterr().out
    for command in ("bench", "check", "explain", "demo", "doctor", "cache"):
        assert command in said


def test_json_is_written_whole_or_not(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    report.write_json(path, [{"a": 1}])
    before = path.read_text()
    with pytest.raises(ValueError, match="JSON"):
        report.write_json(path, [float("nan")])
    with pytest.raises(TypeError):
        report.write_json(path, [object()])
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match="could not be written"):
        report.write_json(tmp_path / "gone" / "out.json", [])
