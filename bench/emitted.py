"""Times files of `segue compile` against segue.optimize and eager PyTorch on one GPU.

    python bench/emitted.py [--seconds S] MODEL.py NEW.py [MODEL.py NEW.py...]

One process, interleaved rounds, caches flushed, as `segue bench --device cuda` does it.
"""

from __future__ import annotations

import argparse
import warnings
from statistics import median

import torch

import segue
from segue import gpu_clock
from segue.modelfile import load, load_with_inputs, on_device


def measure(path: str, new_path: str, seconds: float) -> dict[str, float]:
    """Milliseconds by subject, and microseconds of the host's for the file and the drop-in."""
    file = on_device(load_with_inputs(path), "cuda")
    new = load(new_path, classes=("ModelNew",))
    with torch.device("cuda"):
        module = file.construct(file.init_inputs()).eval()
        emitted = new.construct(file.init_inputs()).eval()
        inputs = file.inputs()
    emitted.load_state_dict(module.state_dict())
    fast = segue.optimize(module, *inputs, fallback="error")
    runs = {
        "eager": lambda: module(*inputs),
        "segue": lambda: fast(*inputs),
        "emitted": lambda: emitted(*inputs),
    }
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")  # a file that runs the original operators says so
        for run in runs.values():
            run()
        equal = torch.equal(runs["segue"](), runs["emitted"]())
        samples = gpu_clock.interleave(runs, seconds)
        found = {name: 1e3 * median(times) for name, times in samples.items()}
        for name in ("segue", "emitted"):
            found[f"{name} host us"] = 1e6 * gpu_clock.host_seconds(runs[name])
    print(
        f"{file.name}: eager {found['eager']:.4f} ms, segue {found['segue']:.4f}, emitted "
        f"{found['emitted']:.4f} ({100 * (found['emitted'] / found['segue'] - 1):+.1f}%), host "
        f"{found['segue host us']:.1f} and {found['emitted host us']:.1f} us, "
        f"{'equal' if equal else 'NOT EQUAL'} bit for bit",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    for path, new_path in zip(args.files[::2], args.files[1::2], strict=True):
        measure(path, new_path, args.seconds)


if __name__ == "__main__":
    main()
