"""The file's own sizes: points tried once more on what get_inputs() gives, batch and all.

The other points use small inputs, so that the check takes seconds. A replacement that has a way of
its own for the sizes it was written for would pass them by other ways.
"""

from __future__ import annotations

import dataclasses

from segue.accuracy import tensors
from segue.measure import flops_of

from . import calls, cuda, layouts, values, weights
from .point import POINTS, InapplicableError, Point, Test
from .subject import Subject, drawn_on

GROUP = "own size"
TRIED: tuple[Test, ...] = (
    values.as_drawn,
    values.normal,
    values.extremes,
    values.nan,
    values.infinities,
    values.poisoned,
    layouts.plain,
    layouts.channels_last,
    layouts.window,
    weights.through_data,
    calls.inputs_kept,
    calls.not_cached,
    calls.small_changes,
    calls.work_repeated,
    calls.not_aliased,
    cuda.stream,
    cuda.ready,
    cuda.graphs,
)
# Of a call on the CPU; more would take minutes in all.
CPU_FLOPS, CPU_ELEMENTS = 2e10, 2e7


def _whole(subject: Subject) -> Subject:
    """The same files, the inputs at their own sizes."""
    if subject.file.device == "cpu":
        inputs = drawn_on(subject.file, "meta")
        flops = flops_of(subject.file.build(), inputs)
        elements = sum(x.numel() for x in tensors(inputs))
        if flops > CPU_FLOPS or elements > CPU_ELEMENTS:
            size = f"{flops / 1e9:.0f} GFLOP on {elements / 1e6:.0f} million numbers"
            raise InapplicableError(f"{size}: for --device cuda")
    return dataclasses.replace(subject, whole=True, pairs=[])


def _register(point: Point) -> None:
    def test(subject: Subject) -> str:
        return point.test(_whole(subject))

    POINTS.append(Point(GROUP, point.name, test))


for _point in [p for p in POINTS if p.test in TRIED]:
    _register(_point)
