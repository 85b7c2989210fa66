"""A new process is ready in a fraction of a second: nothing of the compiler is imported."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import json, sys, time
import torch
start = time.perf_counter()
import segue
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 16, 3)
    def forward(self, x):
        x = torch.nn.functional.gelu(self.conv(x)).clamp(min=0.0)
        return torch.softmax(x.amin(dim=1, keepdim=True) / 2, dim=-1)
fast = segue.optimize(Model(), torch.rand(4, 3, 64, 64))
with torch.no_grad():
    fast(torch.rand(4, 3, 64, 64))
seconds = time.perf_counter() - start
heavy = [m for m in ("torch._dynamo", "torch._inductor", "sympy") if m in sys.modules]
print(json.dumps({"seconds": seconds, "heavy": heavy}))
"""


def test_a_new_process_starts_fast() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["heavy"] == []
    assert measured["seconds"] < 2.0  # about a tenth of a second when nothing else runs
