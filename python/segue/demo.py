"""`segue demo`: four example models, timed on this machine at a batch that fits into a minute."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from . import bench, machine, report
from .modelfile import UserError, load_with_inputs

# Batches of about 10 to 20 billion operations a call: a tenth of a second of one core or two.
BATCHES = {
    "conv2d_scale_min": 2,
    "conv2d_min_add_mul": 8,
    "conv2d_min_tanh_tanh": 8,
    "conv3d_min_softmax": 128,
}
PACKAGE = Path(__file__).resolve().parent


def examples() -> Path:
    """The folder of the example models: in the package, or beside it in a source tree."""
    for folder in (PACKAGE / "examples", PACKAGE.parents[1] / "examples"):
        if all((folder / f"{name}.py").is_file() for name in BATCHES):
            return folder
    raise UserError(f"{PACKAGE / 'examples'}: the example models are not installed.")


def run(args: argparse.Namespace) -> int:
    """The command: measures the four models and prints one table."""
    folder = examples()
    seconds = args.seconds / len(BATCHES)
    files = [
        (load_with_inputs(folder / f"{name}.py"), bench.Options(batch, seconds, processes=False))
        for name, batch in BATCHES.items()
    ]
    with report.progress_bar() as bar:
        records, _ = bench.measure_all(files, bar)
    console = report.console()
    title = f"{machine.cpu_name()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
    console.print(bench.time_table(records, title, brief=True))
    bench.explain(console, records, bench.legend())
    return 0 if all(r["correct"] for r in records) else 1
