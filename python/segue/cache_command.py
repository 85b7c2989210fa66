"""`segue cache ls|clear`: the files that Segue keeps between processes."""

from __future__ import annotations

import argparse
import time

from . import cache, report


def run(args: argparse.Namespace) -> int:
    """The command."""
    return clear() if args.action == "clear" else ls()


def ls() -> int:
    """Lists the files, their sizes and ages."""
    console = report.console()
    found = cache.files()
    if not found:
        console.print(f"{cache.directory()}: nothing is kept.", markup=False)
        return 0
    table = report.table(str(cache.directory()), ["file", "bytes", "days old"])
    for path in found:
        about = path.stat()
        days = (time.time() - about.st_mtime) / 86400
        table.add_row(path.name, str(about.st_size), f"{days:.1f}")
    console.print(table)
    return 0


def clear() -> int:
    """Removes them; 1 when some could not be removed."""
    console = report.console()
    removed = cache.clear()
    left = len(cache.files())
    files = "file" if removed == 1 else "files"
    console.print(f"{cache.directory()}: {removed} {files} removed.", markup=False)
    if left:
        report.errors().print(
            f"segue: {cache.directory()}: {left} could not be removed.", markup=False
        )
    return 1 if left else 0
