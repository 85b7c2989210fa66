"""Points of the contract and their registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .subject import Subject

# Tries to break a point: returns a remark ("" for none) or raises one of the two errors below.
Test = Callable[["Subject"], str]


class BrokenError(Exception):
    """The replacement breaks the point; the message says how."""


class InapplicableError(Exception):
    """The point says nothing about this model; the message says why."""


@dataclass(frozen=True)
class Point:
    """One sentence of the contract."""

    group: str
    name: str
    test: Test


POINTS: list[Point] = []


def point(group: str, name: str) -> Callable[[Test], Test]:
    """Registers a function as the test of a point."""

    def register(test: Test) -> Test:
        POINTS.append(Point(group, name, test))
        return test

    return register


def demand(condition: bool, sentence: str) -> None:
    """Breaks the point with a sentence unless the condition holds."""
    if not condition:
        raise BrokenError(sentence)
