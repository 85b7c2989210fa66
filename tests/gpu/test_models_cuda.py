"""The four example models on a GPU: one kernel each, as near to eager as its users ask."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import segue
from segue import accuracy
from segue.modelfile import load_with_inputs

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))
SEEDS = range(10)

pytestmark = pytest.mark.sm(90)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_model(path: Path) -> None:
    file = load_with_inputs(path)
    batch = 32
    kind = ""
    for seed in SEEDS:
        module = file.build(seed).cuda()
        inputs = [x.cuda() for x in file.inputs(batch, seed)]
        fast = segue.optimize(module, *inputs, fallback="error")
        with torch.no_grad():
            expected, actual = module(*inputs), fast(*inputs)
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
        if seed == 0:
            explanation = segue.explain(module, *inputs)
            assert explanation.kernels == 1, explanation
            kind = explanation
        if "Precision: tf32" in kind:
            assert accuracy.max_abs_diff(actual, expected) <= 1e-5
