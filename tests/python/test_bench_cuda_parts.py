"""What `segue bench --device cuda` needs no GPU for: its words, tables and pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from segue import bench_classes, bench_cuda, machine, pictures, report
from segue.gpu_clock import Ceilings
from segue.modelfile import UserError


def subject(ms: float, segue_ms: float = 1.0) -> dict[str, Any]:
    return {
        "ms": ms,
        "ms_quartiles": [ms, ms],
        "speedup_of_segue": ms / segue_ms,
        "speedup_quartiles": [1.0, 1.0],
        "host_us": 8.0,
        "extra_mb": None,
    }


def record(name: str) -> dict[str, Any]:
    return {
        "model": name,
        "gpu": "a card",
        "precision": "tf32",
        "correct": True,
        "max_abs_diff_eager": 1e-6,
        "rel_err_fp64": 3e-4,
        "rel_err_fp64_eager": 3e-4,
        "kernels": 1,
        "flops": 1e12,
        "bytes": 1e9,
        "floor_ms": 0.8,
        "floor_fraction": 0.8,
        "build_s": 1.0,
        "cached_build_s": 0.01,
        "ceilings": {"half": 7.9e14, "tf32": 4e14, "fp32": 5e13, "bandwidth": 4.3e12},
        "commit": None,
        "versions": machine.versions(),
        "notes": ["<a note>"],
        "subjects": {"eager": subject(9.0), "compile": subject(3.0), "segue": subject(1.0)},
        "classes": {"fp16": of_class(8.0, 4.0), "fp32": of_class(6.0, 12.0)},
    }


def of_class(eager: float, last: float) -> dict[str, Any]:
    return {
        "correct": True,
        "rel_err_fp64": 1e-7,
        "rel_err_fp64_eager": 2e-7,
        "subjects": {
            "eager": subject(eager),
            "channels_last": subject(last),
            "segue": subject(1.0),
        },
    }


def test_names_of_subjects() -> None:
    assert bench_cuda.names_of(None) == list(bench_cuda.TITLES)
    assert bench_cuda.names_of("compile") == ["eager", "compile", "segue"]
    with pytest.raises(UserError, match="'warp' is none of"):
        bench_cuda.names_of("warp,compile")


def test_tables() -> None:
    console = report.console()
    with console.capture() as said:
        console.print(bench_cuda.time_table([record("one"), record("two")]))
        console.print(bench_cuda.detail_table([record("one"), record("two")]))
    text = said.get()
    assert "9 (9.00x)" in text
    assert "tf32" in text
    assert "over the better eager" not in text
    assert "max-autotune" not in text  # which nothing was measured of


def test_names_of_classes() -> None:
    assert bench_classes.names_of(None, None) == list(bench_classes.TITLES)
    assert bench_classes.names_of(None, "compile") == []
    assert bench_classes.names_of("bf16,fp32", "compile") == ["fp32", "bf16"]
    assert bench_classes.names_of("none", None) == []
    with pytest.raises(UserError, match="'half' is none of fp32, fp16, bf16, none"):
        bench_classes.names_of("half", None)


def test_rows_by_class() -> None:
    one, two = record("one"), record("two")
    two["classes"]["fp16"] = of_class(2.0, 9.0)
    del two["classes"]["fp32"]
    found = {row[0]: row[1:] for row in bench_classes.rows([one, two])}
    assert found["fp16: eager"] == ["8 (8.00x)", "2 (2.00x)", "4.00x"]
    assert found["fp32, TF32 off: eager, channels last"] == ["12 (12.00x)", "-", "12.00x"]
    better = [row for row in bench_classes.rows([one, two]) if row[0] == "over the better eager"]
    assert better == [
        ["over the better eager", "6.00x", "-", "6.00x"],
        ["over the better eager", "4.00x", "2.00x", "2.83x"],
    ]
    one["classes"]["fp16"]["correct"] = False
    assert ["over the better eager", "4.00x, WRONG", "2.00x", "2.83x"] in bench_classes.rows(
        [one, two]
    )


def test_floor() -> None:
    best = Ceilings(half=8e14, tf32=4e14, fp32=5e13, bandwidth=4e12)
    assert best.floor_seconds("tf32", 8e12, 1.0) == pytest.approx(0.01)
    assert best.floor_seconds("fp32", 8e12, 1.0) == pytest.approx(0.03)
    assert best.floor_seconds("tf32", 1.0, 4e12) == pytest.approx(1.0)


def test_report(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    records = [record("one"), record("two<b>")]
    pictures.write(tmp_path, records, bench_cuda.TITLES)
    assert json.loads((tmp_path / "results.json").read_text()) == records
    page = (tmp_path / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "two&lt;b&gt;" in page
    assert 'src="times' not in page
    for name in ("times.png", "roofline.png"):
        assert (tmp_path / name).stat().st_size > 10_000


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install matplotlib"):
        pictures.demand()
