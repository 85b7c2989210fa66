"""`segue doctor`: what this machine offers, what Segue will use of it, and what is wrong."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import platform
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from . import machine, report

Facts = dict[str, dict[str, str]]  # group, name, value


@dataclass(frozen=True)
class Diagnosis:
    """Facts by group, and problems in sentences."""

    facts: Facts
    problems: list[str]


def run(args: argparse.Namespace) -> int:
    """The command: prints the facts; 1 when Segue's library cannot be used."""
    report.writable(args.json)
    found = diagnose()
    if args.json:
        report.write_json(args.json, asdict(found))
    console = report.console()
    table = report.table("", ["", "", ""], left=3)
    table.show_header = False
    for group, facts in found.facts.items():
        for index, (name, value) in enumerate(facts.items()):
            table.add_row("" if index else f"[bold]{group}[/]", name, value.replace("[", r"\["))
        table.add_section()
    console.print(table)
    for problem in found.problems:
        console.print(f"Problem: {problem}", markup=False)
    if not found.problems:
        console.print("No problems found.")
    return 1 if "library" not in found.facts else 0


def diagnose() -> Diagnosis:
    """Looks at everything, changes nothing."""
    problems: list[str] = []
    facts: Facts = {"processor": _processor(), "PyTorch": _torch()}
    library = _library(problems)
    if library:
        facts["library"] = library
    facts["compiler"] = _compiler()
    cache = _cache(problems)
    if cache:
        facts["cache"] = cache
    facts["GPU"] = _gpu(problems)
    _judge(problems)
    return Diagnosis(facts, problems)


def _processor() -> dict[str, str]:
    return {
        "name": machine.cpu_name(),
        "kind": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "C library": " ".join(platform.libc_ver()).strip() or "unknown",
        "processors": f"{os.cpu_count()}, usable by this process: {machine.usable_processors()}",
        "PyTorch's instruction set": torch.backends.cpu.get_cpu_capability(),
    }


def _torch() -> dict[str, str]:
    return {
        "version": torch.__version__,
        "Python": platform.python_version(),
        "threads": f"{torch.get_num_threads()} within an operator, "
        f"{torch.get_num_interop_threads()} between",
        "oneDNN": "on" if torch.backends.mkldnn.is_available() else "not in this build",
        "fp32 matrix products": torch.get_float32_matmul_precision(),
        "deterministic": str(torch.are_deterministic_algorithms_enabled()),
    }


def _library(problems: list[str]) -> dict[str, str]:
    """Segue's own view of the machine; empty when its library does not load."""
    try:
        from . import _core  # noqa: PLC0415

        seen: dict[str, Any] = json.loads(_core.machine_json())
    except (ImportError, AttributeError, ValueError) as error:
        problems.append(f"Segue's library could not be loaded: {error}.")
        return {}
    version = machine.versions()["segue"] or "unknown"
    return {"Segue": version, **{str(k): _plain(v) for k, v in seen.items()}}


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    return str(value)


def _compiler() -> dict[str, str]:
    found = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)
    return {"C++": f"{found or 'none'} (torch.compile needs one; Segue does not)"}


def _cache(problems: list[str]) -> dict[str, str]:
    """Where Segue remembers plans, how much, and whether it may write there."""
    try:
        from . import cache  # noqa: PLC0415
    except ImportError:
        return {}
    folder = cache.directory()
    sizes = [path.stat().st_size for path in cache.files()]
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    if not writable:
        problems.append(
            f"{folder} cannot be written, so that nothing is remembered between processes; "
            "set SEGUE_CACHE_DIR to a folder that can."
        )
    return {
        "folder": str(folder),
        "files": f"{len(sizes)}, {sum(sizes)} bytes in all",
        "writable": "yes" if writable else "no",
    }


def _gpu(problems: list[str]) -> dict[str, str]:
    if not torch.cuda.is_available():
        return {"devices": "none that PyTorch can use"}
    return {
        **{f"device {i}": _device(i) for i in range(torch.cuda.device_count())},
        "driver": _driver(),
        "CUDA of PyTorch": f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}",
        "NVRTC": _nvrtc(problems),
        "cuDNN takes TF32": str(torch.backends.cudnn.allow_tf32),
    }


def _device(index: int) -> str:
    about = torch.cuda.get_device_properties(index)
    return (
        f"{about.name}, sm_{about.major}{about.minor}, {about.multi_processor_count} "
        f"multiprocessors, {about.total_memory / 2**30:.0f} GiB, {about.L2_cache_size >> 20} MiB L2"
    )


def _driver() -> str:
    """The driver's version, and the newest CUDA that it runs."""
    newest = ctypes.c_int()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(newest))
    number = newest.value
    with contextlib.suppress(OSError):
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
        found = re.search(r"\b(\d+\.\d+(\.\d+)?)\b", text)
        if found:
            return f"{found.group(1)}, CUDA {number // 1000}.{number % 1000 // 10}"
    return f"CUDA {number // 1000}.{number % 1000 // 10}"


def _nvrtc(problems: list[str]) -> str:
    """The compiler that kernels are built with, tried on the smallest of programs."""
    from . import _core, cuda  # noqa: PLC0415

    cuda.use_nvrtc()
    graph = _core.Graph("graph g { %x = input : f32[64] %y = tanh %x %z = neg %y output %z }")
    try:
        program = _core.Program(graph, [("f32", (64,), (1,))], always=True, gpu="0")
        program.build(0)
    except (OSError, ValueError) as error:
        problems.append(f"Kernels for GPUs cannot be built: {error}.")
    return cuda.find_nvrtc() or "as the loader finds it"


def _judge(problems: list[str]) -> None:
    threads, processors = torch.get_num_threads(), machine.usable_processors()
    if threads > processors:
        problems.append(
            f"PyTorch uses {threads} threads on {processors} processors, which slows everything "
            "down; set OMP_NUM_THREADS or call torch.set_num_threads."
        )
    if threads == 1 and processors > 1:
        problems.append(
            f"PyTorch uses one thread although {processors} processors are free; "
            "OMP_NUM_THREADS may be set to 1."
        )
    busy = machine.busy()
    if busy:
        problems.append(busy)
    if torch.are_deterministic_algorithms_enabled():
        problems.append(
            "Deterministic algorithms are on, which makes PyTorch fill new memory and slows it."
        )
