"""Compares and times a replacement as harnesses of this field do; needs PyTorch alone.

    harness.py MODEL.py MODEL_new.py [--device cuda] [--seeds 5] [--trials 100] [--tolerance 1e-4]

MODEL.py defines Model, get_inputs() and, where the constructor takes arguments, get_init_inputs();
MODEL_new.py defines ModelNew. For every seed both are constructed after seeding, without handing
parameters over, and called on the same fresh inputs: shapes and dtypes must be equal, values
within atol = rtol = tolerance. ModelNew is called first, so that no memory holds the right result.
Then both are timed in turns, every call after the last-level cache was written over: on GPUs by
events on the stream, on the CPU by the clock. Exits with 0 when every seed agrees, otherwise 1.
"""

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

WARM_UP = 5
CPU_CACHE = 128 << 20  # bytes; more than the last-level cache of one socket, usually


def load(path: Path) -> ModuleType:
    """The namespace of a Python file."""
    spec = importlib.util.spec_from_file_location(f"harness_{path.stem}", path)
    if spec is None or spec.loader is None:
        sys.exit(f"{path}: is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def built(model: type[nn.Module], file: ModuleType, seed: int, device: str) -> nn.Module:
    """A model whose parameters are drawn with `seed`."""
    torch.manual_seed(seed)
    arguments = file.get_init_inputs() if hasattr(file, "get_init_inputs") else []
    torch.manual_seed(seed)
    return model(*arguments).to(device).eval()


def drawn(file: ModuleType, seed: int, device: str) -> list[Any]:
    """Inputs drawn with `seed`."""
    torch.manual_seed(seed)
    return [x.to(device) if isinstance(x, Tensor) else x for x in file.get_inputs()]


def difference(new: Any, eager: Any, tolerance: float) -> str:
    """How two results differ beyond the tolerance; "" when they agree."""
    if isinstance(eager, (tuple, list)):
        if not isinstance(new, (tuple, list)) or len(new) != len(eager):
            return "other numbers of results"
        said = (difference(a, b, tolerance) for a, b in zip(new, eager, strict=True))
        return next((s for s in said if s), "")
    if not isinstance(new, Tensor) or new.shape != eager.shape or new.dtype != eager.dtype:
        got = f"{tuple(new.shape)} {new.dtype}" if isinstance(new, Tensor) else type(new).__name__
        return f"{got} instead of {tuple(eager.shape)} {eager.dtype}"
    if torch.allclose(new, eager, rtol=tolerance, atol=tolerance, equal_nan=True):
        return ""
    apart = (new.double() - eager.double()).abs()
    wrong = int((~torch.isclose(new, eager, rtol=tolerance, atol=tolerance, equal_nan=True)).sum())
    return f"{wrong} of {eager.numel()} elements differ, by {float(apart.max()):.2g} at most"


def agrees(
    file: ModuleType, model: type[nn.Module], seed: int, device: str, tolerance: float
) -> bool:
    """Whether both compute the same for one seed; prints a line."""
    new, eager = built(model, file, seed, device), built(file.Model, file, seed, device)
    inputs = drawn(file, seed, device)
    result = new(*inputs)
    how = difference(result, eager(*drawn(file, seed, device)), tolerance)
    print(f"seed {seed}: {how or 'agrees'}", flush=True)
    return not how


def cache_flush(device: str) -> Callable[[], object]:
    """Writes over the last-level cache."""
    if device == "cpu":
        return torch.empty(CPU_CACHE, dtype=torch.uint8).zero_
    size = torch.cuda.get_device_properties(device).L2_cache_size
    return torch.empty(4 * size, dtype=torch.uint8, device=device).zero_


def milliseconds(module: nn.Module, inputs: list[Any], flush: Callable[[], object]) -> float:
    """Of one call after a flush."""
    flush()
    if any(isinstance(x, Tensor) and x.is_cuda for x in inputs):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        module(*inputs)
        end.record()
        end.synchronize()
        return start.elapsed_time(end)
    begin = time.perf_counter()
    module(*inputs)
    return (time.perf_counter() - begin) * 1e3


def main() -> int:
    """The command."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, metavar="MODEL.py")
    parser.add_argument("new", type=Path, metavar="MODEL_new.py")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args()
    file, model = load(args.model), load(args.new).ModelNew
    with torch.no_grad():
        good = [
            agrees(file, model, seed, args.device, args.tolerance) for seed in range(args.seeds)
        ]
        inputs, flush = drawn(file, 0, args.device), cache_flush(args.device)
        modules = [built(kind, file, 0, args.device) for kind in (file.Model, model)]
        for module in modules:
            for _ in range(WARM_UP):
                module(*inputs)
        times: list[list[float]] = [[], []]
        for _ in range(args.trials):
            for module, taken in zip(modules, times, strict=True):
                taken.append(milliseconds(module, inputs, flush))
    eager, new = (statistics.median(taken) for taken in times)
    print(f"{sum(good)} of {args.seeds} seeds agree within {args.tolerance:g}")
    print(
        f"median of {args.trials}: Model {eager:.4g} ms, ModelNew {new:.4g} ms: {eager / new:.2f}x"
    )
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
