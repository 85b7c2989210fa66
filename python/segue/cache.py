"""What Segue keeps between processes, in one folder of small text files.

Plans found by measuring, how PyTorch lays out the results of operators, and in which class of
numbers it runs convolutions on GPUs, so that a known model needs no run on real data before it runs
fused. Compiled GPU kernels lie beside them. The folder is $SEGUE_CACHE_DIR, else `segue` in the
user's cache folder. A file that cannot be read is ignored and written anew; writing goes to a
temporary file that is then renamed.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from . import _core

FORMAT = 2
SUFFIXES = (".wisdom", ".layouts", ".precisions")
KERNELS = "kernels"  # the folder of compiled GPU kernels, which the library keeps


def directory() -> Path:
    """Where the files are; it need not exist."""
    named = os.environ.get("SEGUE_CACHE_DIR")
    if named:
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "segue"


def files() -> list[Path]:
    """Every file kept, of whatever version, sorted by name."""
    found: list[Path] = []
    for folder, suffixes in ((directory(), SUFFIXES), (directory() / KERNELS, (".cubin",))):
        with contextlib.suppress(OSError):
            found += sorted(p for p in folder.iterdir() if p.suffix in suffixes and p.is_file())
    return found


def clear() -> int:
    """Removes every file kept and forgets the plans of this process; how many files went."""
    _core.wisdom_forget()
    removed = 0
    for path in files():
        with contextlib.suppress(OSError):
            path.unlink()
            removed += 1
    return removed


def wisdom_file() -> Path:
    """Plans found by measuring, of this version."""
    return directory() / f"segue-{_core.version}-{FORMAT}.wisdom"


def layouts_file() -> Path:
    """How PyTorch lays out the results of operators, of this version."""
    return directory() / f"segue-{_core.version}-{FORMAT}.layouts"


def precisions_file() -> Path:
    """In which class of numbers PyTorch runs convolutions on GPUs, as seen by this version."""
    return directory() / f"segue-{_core.version}-{FORMAT}.precisions"


def load_wisdom() -> bool:
    """Takes in the plans kept; False when there are none or the file is damaged."""
    try:
        _core.wisdom_import(wisdom_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def save_wisdom() -> bool:
    """Writes the plans of this process; False when the folder cannot be written."""
    return write(wisdom_file(), _core.wisdom_export())


def write(path: Path, text: str) -> bool:
    """Writes a file whole or not at all; False when the folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
    except OSError:
        return False
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        return False
    return True
