"""The classes of numbers on the CPU: random convolutions keep what docs/numerics.md promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import class_cases
import gpu_cases

COUNT = 24


def run(case: gpu_cases.Case, inputs: list[Tensor]) -> Tensor:
    program = class_cases.compiled(case)
    (layout,) = program.outputs
    result = torch.empty_strided(layout[1], layout[2], dtype=gpu_cases.DTYPES[layout[0]])
    program.run([x.data_ptr() for x in inputs], [result.data_ptr()])
    return result


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16", "fp64"])
def test_random_convolutions(name: str) -> None:
    wrong = []
    for number in range(COUNT):
        case = class_cases.draw(name, number)
        generator = torch.Generator().manual_seed(number)
        inputs = class_cases.inputs_of(name, number, case, torch.device("cpu"), generator)
        found = class_cases.problem(name, case, "", run(case, inputs), inputs)
        if found:
            wrong.append(f"{name} {number}: {found}\n{case.inputs}\n{case.text}")
    assert not wrong, f"{len(wrong)} wrong\n" + "\n".join(wrong[:3])
