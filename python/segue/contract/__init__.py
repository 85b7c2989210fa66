"""The contract of a drop-in, point by point.

A point is one sentence of the contract and a function that tries to break it. Points are listed in
the order in which the modules here are imported; `segue check` runs them all.
"""

from . import interface, values, layouts, sizes, weights, gradients, calls, cuda, refusals, own_size  # noqa: I001
from .point import POINTS, BrokenError, InapplicableError, Point
from .subject import Subject

__all__ = [
    "POINTS",
    "BrokenError",
    "InapplicableError",
    "Point",
    "Subject",
    "calls",
    "cuda",
    "gradients",
    "interface",
    "layouts",
    "own_size",
    "refusals",
    "sizes",
    "values",
    "weights",
]
