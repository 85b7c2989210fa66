"""Whether trimming (src/gen/cuda/trim.h) leaves the machine code as it was, and what it saves.

    trimmed.py SGC [STRATEGY...]

One line for each unit that tests/python/test_cuda_build.py builds.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "python"))

import nvrtc
from test_cuda_build import FAMILIES, Family, entry, split


def sources(sgc: str, words: list[str], text: str, *, trimmed: bool) -> list[str]:
    """Sources of a graph's launches."""
    command = [sgc, "dump", "--stage", "cuda", *words, "-"]
    environment = {**os.environ, "SEGUE_DEBUG": "" if trimmed else "u"}
    ran = subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, env=environment
    )
    return split(ran.stdout) if ran.returncode == 0 else []


def code(cubin: bytes) -> bytes:
    """The machine code alone: sections .text.* of the ELF file."""
    at, size, count, names = (
        *struct.unpack_from("<Q", cubin, 40),
        *struct.unpack_from("<HHH", cubin, 58),
    )
    headers = [struct.unpack_from("<IIQQQQ", cubin, at + i * size) for i in range(count)]
    table = headers[names][4]
    found = b""
    for name, _, _, _, offset, length in headers:
        start = table + name
        if cubin[start : cubin.index(b"\0", start)].startswith(b".text."):
            found += cubin[offset : offset + length]
    return found


def build(source: str, architecture: str) -> tuple[nvrtc.Built, float]:
    """Machine code, and the seconds it took."""
    start = time.perf_counter()
    built = nvrtc.compile_source(source, architecture)
    return built, time.perf_counter() - start


def difference(built: nvrtc.Built, was: nvrtc.Built) -> str:
    """Nothing where the code is the same."""
    if code(built.cubin) == code(was.cubin):
        return ""
    counts = [len(re.findall(r"/\*[0-9a-f]{4,}\*/", b.instructions())) for b in (was, built)]
    return (
        f" DIFFERS: instructions {counts[0]} -> {counts[1]}, registers {was.registers} -> "
        f"{built.registers}, local bytes {was.local_bytes} -> {built.local_bytes}"
    )


def rows(sgc: str, family: Family) -> Iterator[str]:
    """One line a unit."""
    seen: set[str] = set()
    for text in family.graphs:
        short = sources(sgc, family.words, text, trimmed=True)
        full = sources(sgc, family.words, text, trimmed=False)
        for new, old in zip(short, full, strict=True):
            if old in seen:
                continue
            seen.add(old)
            lines = f"{old.count(chr(10))} -> {new.count(chr(10))} lines"
            was, before = build(old, family.architecture)
            try:
                built, after = build(new, family.architecture)
            except nvrtc.CompileError as error:
                yield f"{family.name} {entry(old)} {lines} REFUSED {error}\n{text}"
                continue
            yield (
                f"{family.name} {entry(old)} {lines}, {before:.2f} -> {after:.2f} s"
                f"{difference(built, was)}"
            )


def main() -> None:
    """Prints the lines of all families, or of the strategies named."""
    for family in FAMILIES:
        if len(sys.argv) < 3 or family.strategy in sys.argv[2:]:
            for row in rows(sys.argv[1], family):
                print(row, flush=True)


if __name__ == "__main__":
    main()
