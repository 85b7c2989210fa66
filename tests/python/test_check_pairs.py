"""`segue check MODEL.py MODEL_new.py`: pairs broken in one way each, and honest ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch._dynamo as dynamo

import pair_files
from segue import check, cli, contract


@pytest.mark.parametrize("path", pair_files.BROKEN, ids=lambda p: p.stem)
def test_the_named_point_catches(path: Path) -> None:
    """And the original, in the place of the replacement, keeps that point."""
    broken, itself = pair_files.catch(path)
    assert broken.status == check.BROKEN, broken
    assert "raised" not in broken.detail or "pickle" in broken.point, broken
    assert itself.status == check.HOLDS, itself


@pytest.mark.parametrize("path", pair_files.HONEST, ids=lambda p: p.stem)
def test_honest_pairs_pass(path: Path) -> None:
    limit = "recompile_limit" if hasattr(dynamo.config, "recompile_limit") else "cache_size_limit"
    with dynamo.config.patch({limit: 2}):  # recompiling for every size takes its time
        findings = pair_files.examine(path)
    assert check.broken(findings) == []
    silent = {
        f.point
        for f in findings
        if f.status == check.INAPPLICABLE and f.detail != contract.cuda.ON_CPU
    }
    assert silent <= {"get_inputs and get_init_inputs give the same"}


def test_gradients_may_be_refused_in_a_sentence() -> None:
    path = pair_files.PAIRS / "forward_only.py"
    examined = pair_files.subject(pair_files.original(path), path)
    for point in contract.POINTS:
        if point.group == "gradients":
            finding = check.examine_point(point, examined)
            assert finding.status == check.INAPPLICABLE
            assert "ModelNew has no gradients" in finding.detail


def test_the_command_says_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, what JSON says as well."""
    new, out = pair_files.PAIRS / "broken_zero_sign.py", tmp_path / "findings.json"
    assert cli.main(["check", str(pair_files.original(new)), str(new), "--json", str(out)]) == 1
    printed = capsys.readouterr().out
    written = json.loads(out.read_text())
    assert not written["passed"]
    broken = [p["point"] for p in written["points"] if p["status"] == check.BROKEN]
    assert "negative zero keeps its sign" in broken
    assert len(broken) <= 3  # 0 cannot be added to a list either
    assert printed.count("BROKEN") == len(broken)
    assert len(written["points"]) == len(contract.POINTS)
