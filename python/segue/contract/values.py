"""Values: fresh random inputs, and inputs that break careless arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from segue.accuracy import close, identical, reference, relative_error, rounding, tensors

from . import tf32
from .compare import Errors, agree, call, near
from .point import InapplicableError, demand, point
from .subject import Pair, Subject, change_images

SEEDS = (11, 12, 13)
NAN_BYTES, LARGE_BYTES = 0xFF, 0x7B  # what such bytes are in every floating dtype


def _random(subject: Subject, change: Callable[[Tensor], Tensor]) -> str:
    """Errors pooled over seeds of inputs and parameters."""
    pool = Errors()
    for pair, seed in zip(_pairs(subject), SEEDS, strict=True):
        agree(pair, change_images(subject.inputs(seed), change), f"seed {seed}", pool)
    return pool.judge(f"{len(SEEDS)} seeds")


def _pairs(subject: Subject) -> list[Pair]:
    """One pair for each seed."""
    if not subject.pairs:
        subject.pairs += [subject.fresh_pair(seed=seed) for seed in SEEDS]
    return subject.pairs


@point("values", "fresh inputs as the file draws them")
def as_drawn(subject: Subject) -> str:
    """Accuracy, and agreement with eager at the tolerance users apply to the file's own sizes.

    Where one of the two is in TF32 and the other, at this size, is not, they lie further apart.
    """
    for pair, seed in zip(_pairs(subject), SEEDS, strict=True):
        inputs = subject.inputs(seed)
        eager, new = call(pair.eager, inputs), call(pair.new, inputs)
        if eager.error is None and new.error is None:
            alike = near if tf32.allowed(inputs) and not subject.whole else close
            demand(alike(new.result, eager.result), f"seed {seed}: not within 1e-4 of eager")
    return _random(subject, lambda x: x)


@point("values", "the file's own image size")
def own_size(subject: Subject) -> str:
    """One element of the batch, uncut."""
    return agree(subject.pair, subject.full_image(14), "the file's image")


@point("values", "normally distributed inputs")
def normal(subject: Subject) -> str:
    """Both signs."""
    return _random(subject, torch.randn_like)


@point("values", "large inputs (times 100)")
def large(subject: Subject) -> str:
    """Saturates what saturates."""
    return _random(subject, lambda x: torch.randn_like(x) * 100)


@point("values", "small inputs (times 1e-3)")
def small(subject: Subject) -> str:
    """Parameters dominate."""
    return _random(subject, lambda x: torch.randn_like(x) * 1e-3)


@point("values", "1e30 and 1e-30")
def extremes(subject: Subject) -> str:
    """Beyond half precision, within single.

    Where the bias hides small inputs a result has few different numbers, whose errors say little.
    """
    said = _random(subject, lambda x: torch.randn_like(x) * 1e30)
    small = change_images(subject.inputs(17), lambda x: torch.randn_like(x) * 1e-30)
    return f"{said}; {agree(subject.pair, small, '1e-30')}"


@point("values", "magnitudes that differ between images")
def mixed_images(subject: Subject) -> str:
    """Each image's error by itself, from 1e-12 to 1e12."""
    pair, worst = subject.pair, (0.0, 0.0)

    def spread(x: Tensor) -> Tensor:
        powers = torch.linspace(-12, 12, max(x.shape[0], 2))[: x.shape[0]]
        scale = (10.0**powers).reshape(-1, *[1] * (x.dim() - 1)).to(x.device, x.dtype)
        return torch.randn_like(x) * scale

    torch.manual_seed(15)
    inputs = change_images(subject.inputs(15), spread)
    said = agree(pair, inputs, "images of 1e-12 to 1e12")
    eager, new = call(pair.eager, inputs), call(pair.new, inputs)
    if eager.error is not None:
        return said
    truth = reference(pair.eager, inputs)
    coarse = tf32.reference(pair.eager, inputs) if tf32.allowed(inputs) else truth
    results = (eager.result, new.result, truth, coarse)
    for a, b, t, c in zip(*(tensors(r) for r in results), strict=True):
        if a.dim() == 0 or a.shape[0] != subject.batch:
            continue
        for i in range(a.shape[0]):
            own = max(relative_error(a[i], t[i]), relative_error(c[i], t[i], mask=a[i]))
            error = relative_error(b[i], t[i])
            limit = max(1.1 * own, 2 * rounding(a))
            demand(error <= limit, f"image {i}: error {error:.2g}, eager's {own:.2g}")
            worst = max(worst, (error, own))
    return f"worst image: error {worst[0]:.2g}, eager's {worst[1]:.2g}"


@point("values", "magnitudes that differ within an image")
def mixed_pixels(subject: Subject) -> str:
    """Each element its own power of ten, from 1e-20 to 1e20."""
    return _random(subject, lambda x: torch.randn_like(x) * 10.0 ** (torch.rand_like(x) * 40 - 20))


def _sprinkle(value: float, share: float = 0.002) -> Callable[[Tensor], Tensor]:
    def change(x: Tensor) -> Tensor:
        y = torch.randn_like(x)
        y[torch.rand_like(x) < share] = value
        y.view(-1)[:1] = value
        return y

    return change


def _special(subject: Subject, change: Callable[[Tensor], Tensor]) -> str:
    torch.manual_seed(16)
    inputs = change_images(subject.inputs(16), change)
    said = agree(subject.pair, inputs, "sprinkled")
    result = call(subject.pair.eager, inputs).result
    special = sum(int((~t.isfinite()).sum()) for t in tensors(result) if t.is_floating_point())
    return f"{special} special results; {said}"


@point("values", "NaN goes through as in the original")
def nan(subject: Subject) -> str:
    """A few, one in the first element; and nothing but NaN."""
    said = _special(subject, _sprinkle(float("nan")))
    everywhere = change_images(subject.inputs(), lambda x: torch.full_like(x, float("nan")))
    agree(subject.pair, everywhere, "all NaN")
    return said


@point("values", "one NaN, in the last element")
def one_nan(subject: Subject) -> str:
    """The end of a row is where a vector loop has its remainder."""

    def change(x: Tensor) -> Tensor:
        y = torch.randn_like(x)
        y.view(-1)[-1:] = float("nan")
        return y

    return _special(subject, change)


@point("values", "NaN in a parameter")
def nan_parameter(subject: Subject) -> str:
    """In the first element of each, one at a time."""
    count = 0
    pair, inputs = subject.fresh_pair(), subject.inputs()
    for name, p in pair.eager.named_parameters():
        if not p.is_floating_point() or p.numel() == 0:
            continue
        twin = dict(pair.new.named_parameters()).get(name)
        if twin is None:
            continue
        for q in (p, twin):
            q.data.view(-1)[0] = float("nan")
        agree(pair, inputs, f"NaN in {name}")
        for q in (p, twin):
            q.data.view(-1)[0] = 0.25
        count += 1
    if not count:
        raise InapplicableError("the model has no floating parameters")
    return f"{count} parameters"


@point("values", "infinities go through as in the original")
def infinities(subject: Subject) -> str:
    """Each sign alone, then both."""
    said = _special(subject, _sprinkle(float("inf")))
    _special(subject, _sprinkle(float("-inf")))

    def both(x: Tensor) -> Tensor:
        y = _sprinkle(float("inf"))(x)
        y[torch.rand_like(x) < 0.001] = float("-inf")
        return y

    _special(subject, both)
    return said


@point("values", "negative zero keeps its sign")
def negative_zero(subject: Subject) -> str:
    """Zeros of the result, for an input of nothing but -0.0."""
    pair = subject.pair
    inputs = change_images(subject.inputs(), lambda x: torch.full_like(x, -0.0))
    said = agree(pair, inputs, "all -0.0")
    eager, new = call(pair.eager, inputs), call(pair.new, inputs)
    if eager.error is not None:
        return said
    count = 0
    for a, b in zip(tensors(eager.result), tensors(new.result), strict=True):
        zero = (a == 0) & (b == 0)
        wrong = int((a.signbit() != b.signbit())[zero].sum())
        demand(wrong == 0, f"{wrong} zeros have the other sign")
        count += int(zero.sum())
    return f"{count} zeros; {said}"


@point("values", "every element of the result is written")
def poisoned(subject: Subject) -> str:
    """Memory that a call takes without clearing it holds one pattern, then another."""
    pair, inputs = subject.pair, subject.inputs()
    wanted = call(pair.new, inputs).result
    for pattern in (NAN_BYTES, LARGE_BYTES):
        _litter(tensors([wanted, inputs]), pattern)
        got = call(pair.new, inputs).result
        demand(identical(wanted, got), "freed memory shows in the result")
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)  # torch.empty then fills with NaN
    try:
        got = call(pair.new, inputs).result
    finally:
        torch.use_deterministic_algorithms(was)
    demand(identical(wanted, got), "uninitialised memory shows in the result")
    return ""


def _litter(like: list[Tensor], pattern: int) -> None:
    """Fills blocks of such sizes and frees them: an allocator hands out what was freed last."""
    blocks = [
        torch.full((times * t.nbytes,), pattern, dtype=torch.uint8, device=t.device)
        for t in like
        for times in (1, 1, 2, 4)
    ]
    del blocks
