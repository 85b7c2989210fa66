"""What NVRTC makes of a strategy's kernels, as a table: seconds, registers, local memory.

    report.py SGC [STRATEGY...]

The same units as tests/python/test_cuda_build.py builds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "python"))

import nvrtc
from test_cuda_build import FAMILIES, Family, entry, split


def line_of(text: str) -> str:
    """A graph's statements on one line."""
    statements = [line.strip().replace(" = input : ", ":") for line in text.splitlines()[1:-2]]
    return " ".join(statements)


def describe(source: str, family: Family, text: str) -> str:
    """One row of the table."""
    start = time.perf_counter()
    try:
        built = nvrtc.compile_source(source, family.architecture)
    except nvrtc.CompileError as error:
        return f"  REFUSED {str(error)[:300]} | {line_of(text)}"
    seconds = time.perf_counter() - start
    spill = f" SPILLS {built.local_bytes}" if built.local_bytes else ""
    return f"  {entry(source)} {seconds:.2f} s {built.registers} registers{spill} | {line_of(text)}"


def report(sgc: str, family: Family) -> None:
    """The table of one family."""
    print(family.name)
    seen: set[str] = set()
    for text in family.graphs:
        text = text.replace("f32", family.dtype)
        command = [sgc, "dump", "--stage", "cuda", *family.words, "-"]
        ran = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if ran.returncode:
            print(f"  -- {ran.stderr.strip()} | {line_of(text)}")
        for source in split(ran.stdout):
            if source not in seen:
                print(describe(source, family, text), flush=True)
            seen.add(source)


def main() -> None:
    """Prints tables of all families, or of the strategies named."""
    for family in FAMILIES:
        if len(sys.argv) < 3 or family.strategy in sys.argv[2:]:
            report(sys.argv[1], family)


if __name__ == "__main__":
    main()
