"""What Segue keeps between processes: plans found by measuring, one small text file a version.

Captures are not kept: making one takes less time than reading it safely would. The folder is
$SEGUE_CACHE_DIR, else `segue` in the user's cache folder. A file that cannot be read is ignored
and written anew; writing goes to a temporary file that is then renamed.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from . import _core

FORMAT = 1


def directory() -> Path:
    """Where the files are; it need not exist."""
    named = os.environ.get("SEGUE_CACHE_DIR")
    if named:
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "segue"


def files() -> list[Path]:
    """Every file kept, of whatever version, sorted by name."""
    with contextlib.suppress(OSError):
        return sorted(p for p in directory().glob("*.wisdom") if p.is_file())
    return []


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
    """The file of this version."""
    return directory() / f"segue-{_core.version}-{FORMAT}.wisdom"


def load_wisdom() -> bool:
    """Takes in the plans kept; False when there are none or the file is damaged."""
    try:
        _core.wisdom_import(wisdom_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def save_wisdom() -> bool:
    """Writes the plans of this process; False when the folder cannot be written."""
    path = wisdom_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
        try:
            with open(handle, "w", encoding="utf-8") as file:
                file.write(_core.wisdom_export())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError:
        return False
    return True
