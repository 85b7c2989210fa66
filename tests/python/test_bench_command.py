"""`segue bench` and `segue demo` from end to end, on small models."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import segue
from segue import bench, cli, demo, machine
from segue.machine import Ceilings
from segue.modelfile import load_with_inputs

MODEL = """
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(4, channels, 3)

    def forward(self, x):
        return torch.tanh(torch.min(self.conv(x), dim=1, keepdim=True)[0])


batch_size = 6


def get_inputs():
    return [torch.rand(batch_size, 4, 20, 24)]


def get_init_inputs():
    return [8]
"""

TEXTS = {"model", "device", "precision"}
FIGURES = {
    "max_abs_diff_eager", "rel_err_fp64", "rel_err_fp64_eager", "eager_ms", "segue_ms",
    "speedup_eager", "floor_ms", "host_us",
}  # fmt: skip
COMPILE = {"compile_ms", "speedup_compile"}
PROCESSES = {
    "peak_mb_eager", "peak_mb_segue", "compile_cold_s", "compile_warm_s", "torch_compile_cold_s",
    "torch_compile_warm_s", "compile_cold_from_start_s", "compile_warm_from_start_s",
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.py"
    path.write_text(MODEL)
    return path


@pytest.fixture(autouse=True)
def known_ceilings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares all but one test the measuring, and all of them the neighbours."""
    monkeypatch.setattr(machine, "load", lambda: 0.5)
    if request.node.name != "test_everything":
        monkeypatch.setattr(machine, "ceilings", lambda: Ceilings(1e11, 1e10, "as assumed"))


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile as on a machine without a C++ compiler."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", fail)


def replace(monkeypatch: pytest.MonkeyPatch, spoil: Any) -> None:
    """Makes segue.optimize return something else."""

    class Spoiled(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = copy.deepcopy(module)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return spoil(self.module(x))

    monkeypatch.setattr(segue, "optimize", lambda module, *_, **__: Spoiled(module))


def records(path: Path) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = json.loads(path.read_text())
    return result


def test_everything(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    out = tmp_path / "out.json"
    words = ["bench", str(model), "--repeat", "3", "--batch", "5", "--json", str(out)]
    assert cli.main(words) == 0
    [record] = records(out)
    said, err = capsys.readouterr()
    assert "small" in said
    assert "torch.compile" in said
    assert "error" not in err.lower()
    assert {record[name] for name in TEXTS} == {"small", "cpu", "fp32"}
    assert record["shapes"] == [[5, 4, 20, 24]]
    assert record["correct"] is True
    assert record["notes"] == []
    for name in FIGURES | COMPILE | PROCESSES:
        assert isinstance(record[name], float), name
        assert record[name] >= 0, name
    assert record["max_abs_diff_eager"] < 1e-5
    assert record["rel_err_fp64"] < 1e-6
    assert record["compile_cold_s"] < record["compile_cold_from_start_s"]
    assert record["threads"] == torch.get_num_threads()
    assert {"segue", "torch", "python", "system"} <= set(record["versions"])


@pytest.mark.usefixtures("without_compiler")
def test_without_a_compiler(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path
) -> None:
    out = tmp_path / "out.json"
    words = ["bench", str(model), "--quick", "--repeat", "3", "--json", str(out)]
    assert cli.main(words) == 0
    [record] = records(out)
    assert all(record[name] is None for name in COMPILE)
    assert all(isinstance(record[name], float) for name in FIGURES)
    assert "torch.compile cannot run here: it found no working C++ compiler." in (
        capsys.readouterr().out
    )


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda y: y * 1.01,
        lambda y: y * (1 + 2e-6),  # within the field's tolerance, but less exact than eager
        lambda y: y.double(),
        lambda y: y.transpose(-1, -2).contiguous().transpose(-1, -2),
        lambda y: torch.where(y == y.max(), float("nan"), y),
        lambda y: y[:, :, 1:],
    ],
    ids=["values", "accuracy", "dtype", "strides", "nan", "shape"],
)
def test_wrong_results_are_said(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    model: Path,
    spoil: Any,
) -> None:
    replace(monkeypatch, spoil)
    out = tmp_path / "out.json"
    words = ["bench", str(model), "--quick", "--repeat", "3", "--json", str(out)]
    assert cli.main(words) == 1
    assert records(out)[0]["correct"] is False
    assert "NO" in capsys.readouterr().out


@pytest.mark.usefixtures("without_compiler")
def test_slow_replacements_are_said(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    replace(
        monkeypatch, lambda y: torch.rand(1000, 1000) @ torch.rand(1000, 1000) * 0 + y[0, 0, 0, 0]
    )
    file = load_with_inputs(model)
    record = bench.measure_model(file, bench.Options(rounds=3, processes=False), _quiet)
    assert record["speedup_eager"] < 1
    found = bench.floor(record, Ceilings(flops=1e11, bandwidth=1e10, how=""))
    assert found["floor_ms"] == pytest.approx(record["flops"] / 1e8)
    assert found["floor_fraction"] < 0.1


def test_float64_slice_is_small() -> None:
    module = nn.Conv2d(64, 128, 3)
    image = torch.empty(1, 1, 1, 1).expand(8, 64, 128, 128)
    assert bench.float64_slice(module, [image])[0].shape[0] == 4


@pytest.mark.usefixtures("without_compiler")
def test_threads_are_set(model: Path, tmp_path: Path) -> None:
    before, out = torch.get_num_threads(), tmp_path / "out.json"
    words = ["bench", str(model), "--quick", "--repeat", "3", "--threads", "1"]
    try:
        assert cli.main([*words, "--json", str(out)]) == 0
        assert records(out)[0]["threads"] == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("without_compiler")
def test_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in demo.BATCHES:
        source = (demo.examples() / f"{name}.py").read_text()
        smaller = source.replace("= 256\n", "= 48\n").replace("= 128\n", "= 32\n")
        (tmp_path / f"{name}.py").write_text(smaller)
    monkeypatch.setattr(demo, "examples", lambda: tmp_path)
    monkeypatch.setattr(demo, "BATCHES", dict.fromkeys(demo.BATCHES, 2))
    assert cli.main(["demo", "--seconds", "1"]) == 0
    said = capsys.readouterr().out
    for name in demo.BATCHES:
        assert name in said
    assert said.count("yes") == 4
    assert said.count("model ") == 1  # one table


def _quiet(what: str, done: float) -> None:
    assert what
    assert 0 <= done <= 1
