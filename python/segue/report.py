"""What the command line shows and writes: consoles, progress bars, tables, JSON files."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .modelfile import UserError

PIPE_WIDTH = 160  # columns of a table that no terminal will fold


def console() -> Console:
    """Standard output; wide enough for a whole table when it is not a terminal."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def errors() -> Console:
    """Standard error, unwrapped when it is not a terminal."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def progress_bar() -> Progress:
    """A progress bar on standard error; silent when that is not a terminal."""
    screen = errors()
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    )


def subject(name: str, figures: dict[str, Any] | None) -> str:
    """Milliseconds of one subject of a benchmark on a GPU, and how much faster Segue is.

    For Segue told to take class tf32: how much faster than eager it is itself.
    """
    if figures is None:
        return "-"
    text = number(figures["ms"])
    if name == "tf32":
        return f"{text} ({speedup(figures['faster_than']['eager'])} eager)"
    return text if name == "segue" else f"{text} ({speedup(figures['speedup_of_segue'])})"


def table(title: str, columns: Sequence[str], left: int = 1) -> Table:
    """An empty table; all columns but the first `left` are aligned right."""
    result = Table(title=title or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for index, name in enumerate(columns):
        result.add_column(name, justify="left" if index < left else "right", vertical="bottom")
    return result


def number(value: float | None, digits: int = 3) -> str:
    """A figure with so many significant digits; a dash when there is none."""
    if value is None:
        return "-"
    if value == 0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}g}"
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e" in text else text


def speedup(value: float | None) -> str:
    """A ratio of times, as in 1.85x."""
    return "-" if value is None else f"{value:.2f}x"


def writable(path: str | None) -> None:
    """Refuses early what `write_json` could not write late."""
    if path is None:
        return
    target = Path(path)
    if target.is_dir():
        raise UserError(f"{path}: is a folder; --json takes the name of a file.")
    if not target.absolute().parent.is_dir():
        raise UserError(f"{path}: there is no folder {target.absolute().parent} to write it to.")


def make_folder(path: str) -> None:
    """A folder to write a report to, made where it is missing."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: no folder can be made there ({error.strerror}).") from error


def write_json(path: str | Path, value: Any) -> None:
    """Writes the whole file or nothing: a temporary file beside it, then a rename."""
    target = Path(path)
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    descriptor, name = -1, ""
    try:
        descriptor, name = tempfile.mkstemp(dir=target.absolute().parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, target)
    except OSError as error:
        if name:
            Path(name).unlink(missing_ok=True)
        raise UserError(f"{path}: could not be written ({error.strerror}).") from error
