"""`match`: which class of numbers PyTorch uses for a convolution on a GPU.

cuDNN may take float32 operands as TF32, which has 11 significant bits. Whether it does, and how it
rounds there, depends on the kernel that its heuristics choose for the convolution at hand, and is
written down nowhere. So the library is asked: the very convolution runs twice on numbers halfway
between two of 11 bits, with weights that pass one number on, and what comes out tells the rounding.

    input         fp32    halves away from zero    halves to even
    1 + 2^-11     same    1 + 2^-10                1
    1 + 3*2^-11   same    1 + 2^-9                 1 + 2^-9

Whatever gives something else (products of transformed operands, cut-off bits) counts as fp32: the
class that is never less exact. Answers are remembered, in a file of the cache folder too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import cache

FP32, TF32, TF32_EVEN, PLAIN_TF32 = "fp32", "tf32", "tf32_even", "plain_tf32"
ANSWERS = (FP32, TF32, TF32_EVEN)
CLASSES = (*ANSWERS, PLAIN_TF32)
MATCH = "match"
PRECISIONS = (MATCH, *CLASSES)
ENTRIES_MAX = 4096

_HALFWAY = (1 + 2.0**-11, 1 + 3 * 2.0**-11)
_ROUNDED = {
    FP32: _HALFWAY,
    TF32: (1 + 2.0**-10, 1 + 2.0**-9),
    TF32_EVEN: (1.0, 1 + 2.0**-9),
}
_NEAR = 1e-4  # a quarter of what lies between two answers; float32 sums of one product are nearer
_SAMPLES = 12  # of each dimension of the result


@dataclass(frozen=True)
class Convolution:
    """A convolution of PyTorch's as far as the choice of its kernel goes."""

    input: tuple[tuple[int, ...], tuple[int, ...]]  # sizes and strides
    weight: tuple[tuple[int, ...], tuple[int, ...]]
    bias: bool
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    aligned: bool = True  # whether the first elements lie at multiples of 16 bytes


# ---- PyTorch's switches ------------------------------------------------------------------------


Switch = tuple[Callable[..., Any], tuple[Any, ...]]


def _getters() -> tuple[Switch, ...]:
    new = getattr(torch._C, "_get_fp32_precision_getter", None)
    names = ("_get_cudnn_enabled", "_get_cudnn_deterministic", "_get_cudnn_benchmark")
    switches: list[Switch] = [(getattr(torch._C, name), ()) for name in names]
    switches.append((torch._C._get_deterministic_algorithms, ()))
    if new is not None:
        switches += [(new, ("cuda", "conv")), (new, ("cuda", "matmul"))]
    else:
        switches += [(torch._C._get_cudnn_allow_tf32, ()), (torch._C._get_cublas_allow_tf32, ())]
    return tuple(switches)


# Everything of PyTorch's that may change the class, as functions with their arguments: read at
# every call of a drop-in, by segue._core.
SWITCHES = _getters()


def switches() -> tuple[Any, ...]:
    """The switches as they are now."""
    return tuple(get(*arguments) for get, arguments in SWITCHES)


def _tf32_allowed(now: Sequence[Any]) -> bool:
    # Convolutions that are not cuDNN's are matrix products, which have a switch of their own.
    return any(x is True or x == "tf32" for x in now[4:6])


# ---- what a caller names -----------------------------------------------------------------------

_named: ContextVar[str | None] = ContextVar("segue.precision", default=None)
named = _named.get  # read at every call of a drop-in


@contextlib.contextmanager
def use_precision(name: str) -> Iterator[None]:
    """Float32 convolutions of drop-ins that are called inside, on GPUs, are of this class.

    One of "fp32", "tf32", "tf32_even", "plain_tf32" and "match", as for segue.optimize, over what
    was said there. Holds for the thread, or asynchronous task, that entered. ValueError for others.
    """
    accepted(name)
    token = _named.set(name)
    try:
        yield
    finally:
        _named.reset(token)


def rounding_of(name: str) -> str:
    """The answer of PyTorch's that a class is the same as, but for how products are made."""
    return TF32 if name == PLAIN_TF32 else name


def accepted(name: str) -> str:
    """The name itself; ValueError where it is no class and not "match"."""
    if name not in PRECISIONS:
        raise ValueError(f"precision {name!r} is unknown; accepted: {', '.join(PRECISIONS)}")
    return name


# ---- asking the library ------------------------------------------------------------------------


def class_of(convolution: Convolution, device: int) -> str:
    """The class PyTorch uses for a float32 convolution on a GPU, with its switches as they are.

    Asks the library unless the answer is known, which takes the time and memory of two such
    convolutions. Not to be called while a graph is captured.
    """
    now = switches()
    if not _tf32_allowed(now):
        return FP32
    key = _key(convolution, device, now)
    found = _answers.get(key)
    if found is None:
        try:
            found = probe(convolution, device)
        except RuntimeError:  # out of memory, or no kernel: what PyTorch does there is unknown
            return FP32
        # What benchmarking chooses holds for this process alone.
        _answers.put(key, found, lasting=not now[2])
    return found


def probe(convolution: Convolution, device: int) -> str:
    """Runs the convolution on numbers halfway between two of 11 bits."""
    c = convolution
    place = torch.device("cuda", device)
    with torch.no_grad(), torch.inference_mode(False):
        weight = _filled(0.0, *c.weight, c.aligned, place)
        out_channels, per_group = c.weight[0][:2]
        outs = torch.arange(out_channels, device=place)
        taps = [_tap(c, axis) for axis in range(len(c.stride))]
        weight.permute(*range(2, weight.dim()), 0, 1)[tuple(taps)][outs, outs % per_group] = 1.0
        bias = torch.zeros(out_channels, device=place) if c.bias else None
        seen = []
        for value in _HALFWAY:
            x = _filled(value, *c.input, c.aligned, place)
            out = torch.ops.aten.convolution.default(
                x,
                weight,
                bias,
                list(c.stride),
                list(c.padding),
                list(c.dilation),
                False,
                [0] * len(c.stride),
                c.groups,
            )
            seen.append(_values(out))
            del x, out
    return _judge(seen)


def _filled(
    value: float,
    sizes: Sequence[int],
    strides: Sequence[int],
    aligned: bool,
    place: torch.device,
) -> Tensor:
    """A tensor that lies as given, every element the same."""
    span = 1 + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
    start = 0 if aligned else 1
    whole = torch.full((span + start,), value, dtype=torch.float32, device=place)
    return whole.as_strided(sizes, strides, start)


def _tap(c: Convolution, axis: int) -> int:
    """A tap that reads the input, not the padding, for some element of the result."""
    size, kernel = c.input[0][2 + axis], c.weight[0][2 + axis]
    stride, padding, dilation = c.stride[axis], c.padding[axis], c.dilation[axis]
    count = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    order = sorted(range(kernel), key=lambda t: abs(2 * t - kernel + 1))
    for tap in order:
        start = tap * dilation - padding
        if any(0 <= start + i * stride < size for i in (*range(min(count, 64)), count - 1)):
            return tap
    return order[0]


def _values(out: Tensor) -> set[float]:
    """Values of a sample of the result; without the zeros that padding gives."""
    sample = out[tuple(slice(None, None, max(1, n // _SAMPLES)) for n in out.shape)]
    found: set[float] = set(sample.reshape(-1).unique().tolist())
    return {x for x in found if abs(x) > 0.5}


def _judge(seen: Sequence[set[float]]) -> str:
    for name, expected in _ROUNDED.items():
        if all(
            values and all(abs(x - wanted) < _NEAR for x in values)
            for values, wanted in zip(seen, expected, strict=True)
        ):
            return name
    return FP32


# ---- answers -----------------------------------------------------------------------------------


def _key(convolution: Convolution, device: int, now: Sequence[Any]) -> str:
    card = torch.cuda.get_device_properties(device)
    words = (
        torch.__version__,
        str(torch.backends.cudnn.version()),
        f"{card.name} {card.major}.{card.minor} {card.multi_processor_count}",
        repr(now),
        repr(convolution),
    )
    return hashlib.blake2b("|".join(words).encode(), digest_size=16).hexdigest()


class _Answers:
    """Classes by key; the file is read at first use."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._lasting: dict[str, str] = {}  # of the file
        self._loaded = False
        self._lock = threading.Lock()

    def get(self, key: str) -> str | None:
        """The class, if known."""
        with self._lock:
            if not self._loaded:
                self._load()
            return self._known.get(key)

    def put(self, key: str, found: str, lasting: bool) -> None:
        """Remembers a class; lasting: for other processes too."""
        with self._lock:
            self._known[key] = found
            if lasting:
                self._load()  # what other processes have written
                self._lasting[key] = found
                newest = dict(list(self._lasting.items())[-ENTRIES_MAX:])
                cache.write(cache.precisions_file(), json.dumps(newest))

    def forget(self) -> None:
        """Forgets everything; the file stays."""
        with self._lock:
            self._known, self._lasting, self._loaded = {}, {}, False

    def _load(self) -> None:
        self._loaded = True
        with contextlib.suppress(OSError, ValueError):
            read = json.loads(cache.precisions_file().read_text(encoding="utf-8"))
            if isinstance(read, dict):
                fit = {k: v for k, v in read.items() if v in ANSWERS}
                self._lasting = {**fit, **self._lasting}
                self._known = {**fit, **self._known}


_answers = _Answers()
forget = _answers.forget
