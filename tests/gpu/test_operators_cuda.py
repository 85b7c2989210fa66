"""Every pointwise row of the operator table as a kernel, against the float64 interpreter, within
the row's own bound."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from segue import _core, cuda

COUNT = 1 << 16
DOMAINS = {"real": (-4, 4), "wide": (-40, 40), "positive": (0.01, 8), "masked": (-4, 4)}
CRUEL = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, 1e-40, -1e-40, 3e4, -3e4, 0.5)
# A sum of two roundings: where the terms cancel, no bound in units of the result holds.
CANCELS = ("addcmul", "addcdiv")

ROWS = [
    row
    for row in json.loads(_core.operators_json())
    if row["kind"] == "pointwise" and row["name"] not in ("cast", "identity")
]

pytestmark = pytest.mark.sm(80)


def masks_of(row: dict[str, Any]) -> list[bool]:
    """Which operands are bool."""
    place = {"select": 0, "mask": 1}.get(row["result"], -1)
    return [i == place for i in range(row["arity"])]


def operands_of(row: dict[str, Any], generator: torch.Generator) -> list[Tensor]:
    """Numbers of the row's domain, then all pairs of the cruel ones."""
    low, high = DOMAINS[row["domain"]]
    cruel = torch.tensor(CRUEL, dtype=torch.float32)
    made = []
    for i, mask in enumerate(masks_of(row)):
        drawn = torch.rand(COUNT, generator=generator, dtype=torch.float64) * (high - low) + low
        ends = cruel.repeat(len(CRUEL)) if i % 2 else cruel.repeat_interleave(len(CRUEL))
        values = torch.cat([drawn.float(), ends])
        made.append(values > 0 if mask else values)
    if row["result"] == "mask":
        made[-1] = torch.tensor(0.625)  # what fills is one number
    return made


def layout(x: Tensor) -> _core.Layout:
    return ("bool" if x.dtype == torch.bool else "f32", tuple(x.shape), tuple(x.stride()))


def run(graph: _core.Graph, inputs: list[Tensor]) -> Tensor:
    """The result on the GPU."""
    program = _core.Program(
        graph, [layout(x) for x in inputs], always=True, gpu="0", strategy="stream"
    )
    program.build(0)
    dtype = torch.bool if program.outputs[0][0] == "bool" else torch.float32
    there = [x.cuda() for x in inputs]
    result = torch.zeros(inputs[0].shape, dtype=dtype, device="cuda")
    scratch = torch.zeros(program.workspace + 1, dtype=torch.uint8, device="cuda")
    stream = cuda.raw_stream(torch.cuda.current_device())
    addresses = [x.data_ptr() for x in there]
    program.launch(0, stream, addresses, [result.data_ptr()], scratch.data_ptr())
    return result.cpu()


def units(actual: Tensor, expected: Tensor) -> Tensor:
    """Errors in units in the last place of float32."""
    exponent = torch.frexp(expected.abs().clamp(min=2.0**-126))[1]
    return (actual.double() - expected).abs() / torch.ldexp(
        torch.tensor(1.0).double(), exponent - 24
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_row(row: dict[str, Any]) -> None:
    cuda.use_nvrtc()
    inputs = operands_of(row, torch.Generator().manual_seed(5))
    names = "abc"[: row["arity"]]
    lines = [
        f"  %{name} = input : {layout(x)[0]}[{', '.join(str(n) for n in x.shape)}]"
        for name, x in zip(names, inputs, strict=True)
    ]
    call = f"  %y = {row['name']} " + ", ".join(f"%{name}" for name in names)
    graph = _core.Graph("\n".join(["graph g {", *lines, call, "  output %y", "}"]))
    actual = run(graph, inputs)
    expected = torch.zeros(actual.shape, dtype=torch.float64)
    exact = [x.double() for x in inputs]
    graph.reference(
        [layout(x) for x in inputs], [x.data_ptr() for x in exact], [expected.data_ptr()]
    )
    if actual.dtype == torch.bool:
        assert torch.equal(actual, expected != 0)
        return
    drawn, held = slice(0, COUNT), expected.float()
    finite = held.isfinite() & actual.isfinite()
    if row["name"] in CANCELS:
        bound = 4e-7 * (1 + expected.abs().clamp(max=1e6))
        assert bool(((actual.double() - expected).abs() <= bound)[drawn].all())
        return
    # Specials stand where they stand in float64.
    assert torch.equal(actual[~finite].nan_to_num(7), held[~finite].nan_to_num(7))
    allowed = row["ulp"] + 0.01 if row["ulp"] else 0.501
    worst = units(actual, expected)[finite].max()
    assert worst <= allowed, f"{worst:.2f} units, not {row['ulp']}"
