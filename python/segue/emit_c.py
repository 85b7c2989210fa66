"""`segue compile --emit c`: the kernels of a model alone, with a plain C entry.

A folder with one NAME.cu and NAME.h for each kernel, or NAME.c for the CPU, which any C compiler
builds, and a CMakeLists.txt that makes one library of them. The texts are the core's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from . import emit_kernels
from .modelfile import UserError

if TYPE_CHECKING:
    from .emit import Subject
    from .emit_plan import Wanted


def write(subject: Subject, folder: Path, wanted: Wanted) -> list[Path]:
    """Writes the folder, which is made where there is none; returns the files."""
    texts: dict[str, str] = {}
    ending = "c" if wanted.gpu is None else "cu"
    for compiled in subject.plan.regions:
        name = compiled.region.name
        texts[f"{name}.{ending}"] = emit_kernels.emit(compiled, wanted, "source")
        texts[f"{name}.h"] = emit_kernels.emit(compiled, wanted, "header")
    texts["CMakeLists.txt"] = _cmake(subject, wanted, ending)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            path = folder / name
            path.write_text(text, encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}).") from None
    return written


def _cmake(subject: Subject, wanted: Wanted, ending: str) -> str:
    """The core's for the first kernel; the others' sources join that library."""
    first, *others = subject.plan.regions
    text = emit_kernels.emit(first, wanted, "cmake")
    for compiled in others:
        text += f"target_sources({first.region.name} PRIVATE {compiled.region.name}.{ending})\n"
    return text
