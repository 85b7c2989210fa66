"""Runs compiled programs on a GPU as tests like it: results and workspaces are poisoned."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import gpu_cases
from gpu_cases import DTYPES
from segue import _core, cuda

MARGIN = 64  # elements on either side of a result, which no kernel may touch


def outputs_of(program: _core.Program, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
    """Poisoned results as compiled, and the memory each lies in with a margin."""
    memories, views = [], []
    for layout in program.outputs:
        size = gpu_cases.span(layout, 0)
        memory = torch.full((size + 2 * MARGIN,), math.nan, dtype=DTYPES[layout[0]], device=device)
        memories.append(memory)
        views.append(memory.as_strided(layout[1], layout[2], MARGIN))
    return memories, views


def launch(program: _core.Program, inputs: list[Tensor], outputs: list[Tensor]) -> None:
    """Runs a program on the current stream, in a workspace full of NaN."""
    scratch = torch.full(
        (program.workspace // 4 + 1,), math.nan, dtype=torch.float32, device="cuda"
    )
    program.launch(
        torch.cuda.current_device(),
        cuda.raw_stream(torch.cuda.current_device()),
        [x.data_ptr() for x in inputs],
        [x.data_ptr() for x in outputs],
        scratch.data_ptr(),
    )
