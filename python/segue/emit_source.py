"""A model file's text as part of another file: its imports, and everything else as it stands."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from dataclasses import dataclass

WIDTH = 100


@dataclass(frozen=True)
class Source:
    """The parts of a model file."""

    title: str  # first line of its docstring, or ""
    future: list[str]  # names imported from __future__
    imports: list[str]  # those that it begins with, as statements
    body: str  # the rest, as it stands, without a part for `python FILE.py`
    names: frozenset[str]  # bound at its top level


def read(text: str) -> Source:
    """Takes a model file apart."""
    tree = ast.parse(text)
    lines = text.splitlines()
    removed: set[int] = set()  # line numbers from 0
    future: list[str] = []
    imports: list[str] = []
    title = ""
    leading = True
    for i, statement in enumerate(tree.body):
        span = range(statement.lineno - 1, statement.end_lineno or statement.lineno)
        if i == 0 and ast.get_docstring(tree) is not None:
            title = (ast.get_docstring(tree) or "").strip().splitlines()[0].rstrip(".")
            removed.update(span)
        elif isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            future += [alias.name for alias in statement.names]
            removed.update(span)
        elif leading and isinstance(statement, (ast.Import, ast.ImportFrom)):
            imports += _separate(statement)
            removed.update(span)
        else:
            leading = False
            if _is_main(statement):
                removed.update(span)
    kept = "\n".join(line for i, line in enumerate(lines) if i not in removed)
    return Source(title, future, imports, kept.strip("\n"), frozenset(_bound(tree)))


def _separate(statement: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(statement, ast.ImportFrom):
        return [ast.unparse(statement)]
    return [ast.unparse(ast.Import([alias])) for alias in statement.names]


def _is_main(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)


def _bound(tree: ast.Module) -> Iterable[str]:
    for statement in tree.body:
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield statement.name
            continue
        for node in ast.walk(statement):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                yield from ((a.asname or a.name).split(".")[0] for a in node.names)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


def sorted_imports(statements: Iterable[str]) -> str:
    """Import statements in two groups, the standard library's first."""

    def module(statement: str) -> str:
        return statement.split()[1].split(".", maxsplit=1)[0]

    own: list[str] = []
    others: list[str] = []
    for statement in sorted(set(statements), key=lambda s: (s.startswith("from"), s)):
        (own if module(statement) in sys.stdlib_module_names else others).append(statement)
    return "\n\n".join("\n".join(group) for group in (own, others) if group)


def needed_modules(source: Source) -> list[str]:
    """Modules imported that are neither PyTorch's nor the standard library's."""
    found = {s.split()[1].split(".")[0] for s in source.imports}
    return sorted(m for m in found if m not in ("torch", "") and m not in sys.stdlib_module_names)


def signature(text: str, name: str) -> ast.arguments | None:
    """The arguments of forward() of a class of the file, as written there, the first as `self`."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and node.name == name:
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "forward":
                    (item.args.posonlyargs or item.args.args)[0].arg = "self"
                    return item.args
    return None


def pass_on(arguments: ast.arguments) -> str:
    """What a function with these arguments, the first left out, passes to its twin."""
    words = [a.arg for a in [*arguments.posonlyargs, *arguments.args][1:]]
    if arguments.vararg:
        words.append(f"*{arguments.vararg.arg}")
    words += [f"{a.arg}={a.arg}" for a in arguments.kwonlyargs]
    if arguments.kwarg:
        words.append(f"**{arguments.kwarg.arg}")
    return ", ".join(words)


def fold(line: str, indent: int = 0) -> str:
    """A statement, cut at its last pair of brackets where it is too long for a line."""
    margin = " " * indent
    if len(margin + line) <= WIDTH:
        return margin + line
    opened = _last_bracket(line)
    if opened is None:
        return margin + line
    start, end = opened
    inner = line[start + 1 : end]
    if len(margin) + 4 + len(inner) <= WIDTH:
        return f"{margin}{line[: start + 1]}\n{margin}    {inner}\n{margin}{line[end:]}"
    parts = _parts(inner)
    body = "\n".join(fold(f"{part},", indent + 4) for part in parts)
    return f"{margin}{line[: start + 1]}\n{body}\n{margin}{line[end:]}"


def fill(line: str, indent: int) -> str:
    """A call with many arguments, in as few lines as they fit."""
    margin = " " * indent
    if len(margin + line) <= WIDTH:
        return margin + line
    start, end = _last_bracket(line) or (0, 0)
    rows = [""]
    for part in _parts(line[start + 1 : end]):
        if rows[-1] and len(f"{margin}    {rows[-1]} {part},") > WIDTH:
            rows.append("")
        rows[-1] = f"{rows[-1]} {part},".lstrip()
    body = "\n".join(f"{margin}    {row}" for row in rows)
    return f"{margin}{line[: start + 1]}\n{body}\n{margin})  # fmt: skip"


def _last_bracket(line: str) -> tuple[int, int] | None:
    """Where the outermost brackets that close last begin and end."""
    depth, start, found, quote = 0, 0, None, ""
    for i, c in enumerate(line):
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'":
            quote = c
        elif c in "([{":
            start = i if depth == 0 else start
            depth += 1
        elif c in ")]}":
            depth -= 1
            if depth == 0:
                found = (start, i)
    return found


def _parts(inner: str) -> list[str]:
    """Text cut at its outermost commas."""
    parts, depth, begin, quote = [], 0, 0, ""
    for i, c in enumerate(inner):
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(inner[begin:i].strip())
            begin = i + 1
    return [*parts, inner[begin:].strip()]
