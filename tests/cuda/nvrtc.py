"""NVRTC and nvdisasm for tests: sources become machine code and a report of what it uses.

Both come from packages (dev-requirements.txt), so no CUDA toolkit and no GPU are needed.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# As the library compiles (src/build/nvrtc.h), and a report.
OPTIONS = (
    "-default-device", "--std=c++17", "--fmad=true", "--ptxas-options=-v", "-diag-suppress=177",
)  # fmt: skip
USE = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")


@dataclass(frozen=True)
class Built:
    """One translation unit as machine code."""

    cubin: bytes
    log: str

    @property
    def registers(self) -> int:
        """Of the kernel."""
        found = REGISTERS.search(self.log)
        assert found, f"no report of registers in {self.log!r}"
        return int(found[1])

    @property
    def local_bytes(self) -> int:
        """Stack and spills together."""
        found = USE.findall(self.log)
        assert found, f"no report of spills in {self.log!r}"
        return sum(int(number) for row in found for number in row)

    @property
    def report(self) -> str:
        """The lines of the log that count."""
        return "\n".join(line for line in self.log.splitlines() if "bytes" in line)

    def instructions(self) -> str:
        """The machine code, disassembled."""
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(self.cubin)
            file.flush()
            command = [str(nvdisasm()), "-c", file.name]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class CompileError(Exception):
    """What NVRTC printed."""


def _packaged(package: str, name: str) -> Path | None:
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [Path(file.locate()) for file in files if file.name.startswith(name)]
    return found[0] if found else None


@cache
def library() -> ctypes.CDLL | None:
    """NVRTC; None where it is not installed."""
    builtins = _packaged("nvidia-cuda-nvrtc", "libnvrtc-builtins.so")
    path = _packaged("nvidia-cuda-nvrtc", "libnvrtc.so")
    if not builtins or not path:
        return None
    ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(path))


def nvdisasm() -> Path | str | None:
    """The disassembler; None where there is none."""
    return _packaged("nvidia-cuda-nvdisasm", "nvdisasm") or shutil.which("nvdisasm")


def available() -> bool:
    """Whether both are there."""
    return library() is not None and nvdisasm() is not None


def _get(program: ctypes.c_void_p, what: str) -> bytes:
    nvrtc = library()
    assert nvrtc
    size = ctypes.c_size_t()
    getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{what}")(program, text)
    return text.raw


def compile_source(source: str, architecture: str) -> Built:
    """Machine code for "sm_80", ...; the interpreter's lock is not held meanwhile."""
    nvrtc = library()
    assert nvrtc
    program = ctypes.c_void_p()
    created = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None
    )
    assert created == 0
    words = [f"--gpu-architecture={architecture}".encode(), *(o.encode() for o in OPTIONS)]
    result = nvrtc.nvrtcCompileProgram(program, len(words), (ctypes.c_char_p * len(words))(*words))
    log = _get(program, "ProgramLog").rstrip(b"\0").decode()
    if result != 0:
        errors = [line for line in log.splitlines() if "error" in line]
        raise CompileError("\n".join(errors) or log)
    cubin = _get(program, "CUBIN")
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return Built(cubin, log)
