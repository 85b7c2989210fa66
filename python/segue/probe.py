"""A measurement that needs a process of its own: start-up time or peak memory of one contender.

Run as a program by measure.py, with one JSON object as its argument; prints one JSON object as
its last line. It imports torch before anything of Segue, so that what Segue costs at start-up is
counted.

    {"what": "startup"|"memory", "contender": "eager"|"compile"|"segue", "path": ..., "batch": ...,
     "threads": ..., "folder": this package's folder, "started": time.monotonic() of the parent}
"""

from __future__ import annotations

import gc
import importlib.util
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

Request = dict[str, Any]
Forward = Callable[..., Any]


def main(request: Request) -> dict[str, Any]:
    """Measures what the request asks for."""
    imported = time.monotonic()
    warnings.filterwarnings("ignore")
    if request["threads"]:
        torch.set_num_threads(request["threads"])
    modelfile = _alone(request, "modelfile")
    file = modelfile.load_with_inputs(request["path"])
    module, inputs = file.build(), file.inputs(request["batch"])
    with torch.no_grad():
        if request["what"] == "memory":
            return _memory(request, module, inputs, modelfile)
        return _startup(request, module, inputs, imported)


def _startup(request: Request, module: Any, inputs: list[Any], imported: float) -> dict[str, Any]:
    """Seconds to the first result, less building the model and its inputs."""
    ready = time.monotonic()
    _contender(request["contender"], module, inputs)(*inputs)
    done = time.monotonic()
    return {
        "from_import": done - ready,
        "from_start": done - request["started"] - (ready - imported),
    }


def _memory(
    request: Request, module: Any, inputs: list[Any], modelfile: ModuleType
) -> dict[str, Any]:
    """The most memory one call holds beyond inputs, parameters and its outputs.

    A call on one element of the batch first loads code and starts threads; what the first call at
    the full size allocates, and what it keeps, is counted.
    """
    machine = _alone(request, "machine")
    forward = _contender(request["contender"], module, inputs)
    forward(*modelfile.with_batch(inputs, 1))
    gc.collect()
    if not machine.reset_peak():
        return {"peak": None}
    before = machine.resident_bytes()
    result = forward(*inputs)
    peak = machine.peak_resident_bytes()
    leaves = torch.utils._pytree.tree_leaves(result)
    own = sum(t.numel() * t.element_size() for t in leaves if isinstance(t, torch.Tensor))
    return {"peak": max(0, peak - before - own)}


def _contender(name: str, module: Any, inputs: list[Any]) -> Forward:
    if name == "compile":
        return torch.compile(module)
    if name == "segue":
        import segue  # noqa: PLC0415  (its import is part of what is timed)

        return segue.optimize(module, *inputs)
    return module


def _alone(request: Request, name: str) -> ModuleType:
    """A module of this package, without importing the package."""
    path = Path(request["folder"]) / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"_segue_probe_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
