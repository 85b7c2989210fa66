"""Every point of the contract: an honest replacement keeps it, some sabotaged one breaks it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import pair_files
from segue import check, contract
from segue.contract import tf32
from segue.modelfile import load, load_with_inputs

MODEL = """
import copy
import time

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, channels, scale=2.0):
        super().__init__()
        self.conv = nn.Conv2d(2, channels, 3)
        self.bias = nn.Parameter(torch.randn(channels, 1, 1))
        self.register_buffer("offset", torch.full((channels, 1, 1), 0.1))
        self.scale = scale

    def forward(self, x):
        x = torch.min(self.conv(x), torch.tensor(0.5))
        return (x + self.bias) * self.scale + self.offset


batch_size = 4


def get_inputs():
    return [torch.rand(batch_size, 2, 12, 11)]


def get_init_inputs():
    return [4]
"""

DOUBLING = """
import torch
from torch import nn


class Model(nn.Module):
    def forward(self, x):
        return x * 2


def get_inputs():
    return [torch.rand(4, 2, 5, 5)]
"""

RANDOM_VALUES = (
    "fresh inputs as the file draws them",
    "the file's own image size",
    "normally distributed inputs",
    "large inputs (times 100)",
    "small inputs (times 1e-3)",
)
STRIDED = (
    "channels-last inputs",
    "transposed inputs",
    "inputs with a stride of two",
    "a window of a larger image",
    "a slice of channels",
    "expanded inputs (stride 0)",
)
ALIVE = (
    "an edit in place",
    "an edit of each parameter alone",
    "an edit through .data",
    "new memory through .data",
    "load_state_dict",
    "a parameter replaced by a new one",
    "an optimizer's step",
    "buffers",
    "torch.func.functional_call",
    "state_dict loads into the replacement",
    "one training step changes the results as in the original",
)
REFUSALS = tuple(p.name for p in contract.POINTS if p.group == "refusals")


@dataclass(frozen=True)
class Sabotage:
    """The body of a class ModelNew(Model), and the points that it must break."""

    body: str
    breaks: tuple[str, ...]
    model: str = MODEL

    def source(self) -> str:
        lines = "\n".join(f"    {line}" for line in self.body.strip("\n").splitlines())
        return f"{self.model}\n\nclass ModelNew(Model):\n{lines}\n"


def spoiled(statements: str, breaks: tuple[str, ...], model: str = MODEL) -> Sabotage:
    """A forward that computes y as the original and then does something to it."""
    lines = "\n".join(f"    {line}" for line in statements.strip("\n").splitlines())
    return Sabotage(f"def forward(self, x):\n    y = super().forward(x)\n{lines}", breaks, model)


SABOTAGES = {
    "wrong constant": Sabotage(
        """
def forward(self, x):
    x = torch.min(self.conv(x), torch.tensor(0.4))
    return (x + self.bias) * self.scale + self.offset
""",
        (*RANDOM_VALUES[:4], "a batch of one, and of five"),
    ),
    "dropped bias": spoiled("return y - self.bias * self.scale", RANDOM_VALUES),
    "one element wrong by a thousandth": spoiled(
        "y.view(-1)[-1:] *= 1.001\nreturn y", RANDOM_VALUES[:2]
    ),
    "half precision inside": spoiled(
        "return y.half().to(y.dtype)", (*RANDOM_VALUES, "magnitudes that differ between images")
    ),
    "half precision's range": Sabotage(
        "def forward(self, x):\n    return super().forward(x.clamp(-65504, 65504))",
        (
            "1e30 and 1e-30",
            "magnitudes that differ between images",
            "magnitudes that differ within an image",
            "infinities go through as in the original",
        ),
    ),
    "NaN lost": spoiled(
        "return torch.nan_to_num(y, nan=0.0, posinf=float('inf'), neginf=-float('inf'))",
        (
            "NaN goes through as in the original",
            "one NaN, in the last element",
            "NaN in a parameter",
        ),
    ),
    "sign of zero lost": spoiled("return y + 0.0", ("negative zero keeps its sign",), DOUBLING),
    "last element not written": spoiled(
        "z = torch.empty_like(y)\nz.view(-1)[:-1] = y.view(-1)[:-1]\nreturn z",
        ("every element of the result is written",),
    ),
    "wrong strides": spoiled(
        "return y.transpose(-1, -2).contiguous().transpose(-1, -2)",
        ("shape, dtype, device and strides of the result", "a batch of one, and of five"),
    ),
    "always contiguous": spoiled(
        "return y.contiguous()", ("channels-last inputs", "a channels-last model")
    ),
    "inputs taken for contiguous": Sabotage(
        """
def forward(self, x):
    return super().forward(x.as_strided(x.shape, torch.empty(x.shape).stride()))
""",
        STRIDED,
    ),
    "parameters taken for contiguous": Sabotage(
        """
def forward(self, x):
    w = self.conv.weight
    w = w.as_strided(w.shape, torch.empty(w.shape).stride())
    x = torch.min(nn.functional.conv2d(x, w, self.conv.bias), torch.tensor(0.5))
    return (x + self.bias) * self.scale + self.offset
""",
        ("parameters that are views",),
    ),
    "no empty batch": spoiled(
        "if not x.shape[0]:\n    raise RuntimeError('empty')\nreturn y", ("an empty batch",)
    ),
    "one batch alone": spoiled(
        "if x.dim() != 4 or x.shape[0] != 2:\n    raise RuntimeError('batch')\nreturn y",
        ("a batch of one, and of five", "the file's own image size", "no batch dimension"),
    ),
    "one image size alone": spoiled(
        "if x.shape[-1] != 11:\n    raise RuntimeError('size')\nreturn y",
        ("smaller and larger images", "images from one pixel up"),
    ),
    "dead weights": Sabotage(
        """
def forward(self, x):
    if not hasattr(self, "kept"):
        object.__setattr__(self, "kept", [copy.deepcopy(Model.forward.__get__(self).__self__)])
    return Model.forward(self.kept[0], x)
""",
        ALIVE,
    ),
    "parameter names changed": Sabotage(
        """
def __init__(self, channels, scale=2.0):
    super().__init__(channels, scale)
    self.shift = self.bias
    del self.bias

def forward(self, x):
    x = torch.min(self.conv(x), torch.tensor(0.5))
    return (x + self.shift) * self.scale + self.offset
""",
        (
            "parameters and buffers have the same names, in order",
            "state_dict loads into the replacement",
            "state_dict loads back into the original",
        ),
    ),
    "other arguments": Sabotage(
        """
def __init__(self, channels, scale=1.0):
    super().__init__(channels, 2.0)

def forward(self, image):
    return super().forward(image)
""",
        (
            "__init__ takes the same arguments",
            "forward takes the same arguments",
            "arguments may be passed by name",
        ),
    ),
    "train() ignored": Sabotage(
        "def train(self, mode=True):\n    return self", ("train() and eval() are followed",)
    ),
    "copies are not copies": Sabotage(
        "def __deepcopy__(self, memo):\n    return self",
        ("copy.deepcopy gives an independent module",),
    ),
    "always single": spoiled("return y.float()", ("moves to other dtypes as the original does",)),
    "no gradients": spoiled(
        "return y.detach()",
        (
            "of inputs and parameters",
            "in training mode",
            "results require gradients when the original's do",
            "one training step changes the results as in the original",
        ),
    ),
    "wrong gradients": spoiled(
        "return y + (y - y.detach())", ("of inputs and parameters", "in training mode")
    ),
    "other values in training": spoiled(
        "return y * 2 if self.training else y", ("in training mode",)
    ),
    "input changed": spoiled("x.add_(1)\nreturn y", ("inputs are not changed",)),
    "parameter changed": spoiled(
        "self.bias.data.add_(1e-3)\nreturn y",
        ("parameters are not changed", "repeated calls are equal bit for bit"),
    ),
    "result remembered": spoiled(
        """
if not hasattr(self, "first"):
    self.first = y
return self.first
""",
        ("results are not remembered", "results share no memory"),
    ),
    "result remembered by address": spoiled(
        """
if getattr(self, "address", None) != x.data_ptr():
    self.address, self.last = x.data_ptr(), y
return self.last.clone()
""",
        ("results are not remembered",),
    ),
    "results in one place": spoiled(
        """
if not hasattr(self, "place"):
    self.place = torch.empty_like(y)
return self.place.copy_(y)
""",
        ("results share no memory",),
    ),
    "noise": spoiled(
        "return y * (1 + 1e-6 * torch.rand_like(y))", ("repeated calls are equal bit for bit",)
    ),
    "wrong with one thread": spoiled(
        "return y * 1.001 if torch.get_num_threads() == 1 else y", ("other numbers of threads",)
    ),
    "state shared by threads": Sabotage(
        """
def forward(self, x):
    self.x = x
    time.sleep(0.002)
    return super().forward(self.x)
""",
        ("several Python threads may call at once",),
    ),
    "hooks passed over": Sabotage(
        "def __call__(self, *inputs, **named):\n    return self.forward(*inputs, **named)",
        ("hooks are called",),
    ),
    "another exception": Sabotage(
        """
def forward(self, *inputs, **named):
    try:
        y = super().forward(*inputs, **named)
    except Exception as error:
        raise KeyError("something went wrong") from error
    if y.is_meta:
        raise KeyError("another device")
    return y
""",
        REFUSALS,
    ),
}


def subject(folder: Path, model: str, new: str) -> contract.Subject:
    """What `segue check model.py new.py` examines."""
    (folder / "model.py").write_text(model)
    (folder / "new.py").write_text(new)
    file = load_with_inputs(folder / "model.py")
    replacement = load(folder / "new.py", classes=("ModelNew", "Model"))
    make = check.from_file(file, replacement)
    return contract.Subject(file, make, new=replacement)


@pytest.mark.parametrize("name", SABOTAGES)
def test_sabotage_is_found(tmp_path: Path, name: str) -> None:
    sabotage = SABOTAGES[name]
    examined = subject(tmp_path, sabotage.model, sabotage.source())
    small = [p for p in contract.POINTS if p.group != contract.own_size.GROUP]
    points = [p for p in small if p.name in sabotage.breaks]
    findings = [check.examine_point(p, examined) for p in points]
    assert {f.point for f in findings} == set(sabotage.breaks)
    assert [f for f in findings if f.status != check.BROKEN] == []
    assert all(f.detail for f in findings)


def test_every_point_is_broken_by_something() -> None:
    """By a sabotage here, or by a file of tests/pairs."""
    broken = {name for sabotage in SABOTAGES.values() for name in sabotage.breaks}
    files = (*pair_files.BROKEN, *pair_files.GPU_BROKEN)
    broken |= {pair_files.point(path).name for path in files}
    assert {p.name for p in contract.POINTS} - broken == set()


def test_points_have_names_of_their_own() -> None:
    names = [(p.group, p.name) for p in contract.POINTS]
    assert len(names) == len(set(names))


def test_operands_are_rounded_to_tf32() -> None:
    """To 11 bits, ties to even, as a mask over float32's bits gives; convolutions see them so."""
    x = torch.randn(1000) * torch.logspace(-20, 20, 1000)
    x[:4] = torch.tensor([0.0, float("inf"), 1 + 2**-11, 1 + 3 * 2**-11])
    got = tf32.rounded(x.double())
    assert torch.equal(got.float().view(torch.int32) & 0x1FFF, torch.zeros(1000, dtype=torch.int32))
    assert torch.equal(got[:4], torch.tensor([0.0, float("inf"), 1.0, 1 + 2**-9]).double())
    assert float(((got - x.double()) / x.double())[4:].abs().max()) <= 2**-11
    conv, image = torch.nn.Conv2d(2, 3, 3), torch.rand(1, 2, 5, 5)
    rounded = copy.deepcopy(conv).double()
    rounded.weight.data.copy_(tf32.rounded(conv.weight.data.double()))
    wanted = rounded(tf32.rounded(image.double()))
    assert torch.allclose(tf32.reference(conv, [image]), wanted, rtol=1e-14)
