"""Names and signatures: what code around the model relies on without calling it."""

from __future__ import annotations

import copy
import importlib
import inspect
import io
import pickle
from operator import methodcaller
from typing import Any

import torch
from torch import Tensor, nn

from segue.accuracy import identical
from segue.modelfile import ModelFile, describe

from .compare import agree, call, same_form, same_refusal
from .point import InapplicableError, demand, point
from .subject import Pair, Subject, drawn_on


def _parameters(function: object) -> list[tuple[str, object, object]]:
    assert callable(function)
    signature = inspect.signature(function)
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


def _new_file(subject: Subject) -> ModelFile:
    if subject.new is None:
        raise InapplicableError("segue.optimize replaces an instance, not its class")
    return subject.new


@point("interface", "__init__ takes the same arguments")
def init_signature(subject: Subject) -> str:
    """Names, kinds and defaults."""
    wanted = _parameters(subject.file.model.__init__)
    got = _parameters(_new_file(subject).model.__init__)
    demand(got == wanted, f"{_listed(got)}, the original {_listed(wanted)}")
    return _listed(wanted)


@point("interface", "forward takes the same arguments")
def forward_signature(subject: Subject) -> str:
    """Names, kinds and defaults."""
    wanted = _parameters(subject.pair.eager.forward)
    got = _parameters(subject.pair.new.forward)
    demand(got == wanted, f"{_listed(got)}, the original {_listed(wanted)}")
    return _listed(wanted)


@point("interface", "arguments may be passed by name")
def by_name(subject: Subject) -> str:
    """The first argument as a keyword."""
    inputs = subject.inputs()
    name, kind, _ = _parameters(subject.pair.eager.forward)[0]
    if kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD or len(inputs) != 1:
        raise InapplicableError("forward takes no single named argument")
    eager = call(subject.pair.eager, [], **{name: inputs[0]})
    new = call(subject.pair.new, [], **{name: inputs[0]})
    same_refusal(eager, new, f"{name}=...")
    same_form(eager.result, new.result, f"{name}=...")
    return f"{name}=..."


@point("interface", "get_inputs and get_init_inputs give the same")
def drawn(subject: Subject) -> str:
    """Number, shapes and dtypes of inputs, and the arguments of the constructor."""
    new = _new_file(subject)
    there = [n for n in ("get_inputs", "get_init_inputs") if hasattr(new.namespace, n)]
    if not there:
        raise InapplicableError(f"{new.path.name} defines neither, the original's are used")
    if "get_inputs" in there:
        got, wanted = _shapes(new), _shapes(subject.file)
        demand(got == wanted, f"get_inputs() gives {got}, the original's {wanted}")
    if "get_init_inputs" in there:
        got, wanted = new.init_inputs(), subject.file.init_inputs()
        demand(got == wanted, f"get_init_inputs() gives {got}, the original's {wanted}")
    return " and ".join(there)


def _shapes(file: ModelFile) -> list[object]:
    inputs = drawn_on(file, "meta")
    return [(tuple(x.shape), x.dtype) if isinstance(x, Tensor) else x for x in inputs]


@point("interface", "the same seed gives the same parameters and buffers")
def drawn_values(subject: Subject) -> str:
    """Which therefore are made in the same order."""
    new, count = _new_file(subject), 0
    for seed in (0, 1):
        wanted = subject.file.build(seed).state_dict()
        torch.manual_seed(seed)
        got = new.construct(subject.file.init_inputs()).to(subject.file.device).state_dict()
        for name in wanted.keys() & got.keys():  # names are a point of their own
            demand(identical(got[name], wanted[name]), f"{name} has other values for seed {seed}")
        count = len(wanted)
    return f"{count} values, two seeds"


def _listed(parameters: list[tuple[str, object, object]]) -> str:
    return "(" + ", ".join(name for name, _, _ in parameters) + ")"


@point("interface", "parameters and buffers have the same names, in order")
def names(subject: Subject) -> str:
    """Shapes, dtypes and requires_grad too."""
    eager, new = subject.pair.eager, subject.pair.new
    for what in ("parameters", "buffers"):
        wanted = _described(eager, what)
        got = _described(new, what)
        demand(list(got) == list(wanted), f"{what} {list(got)}, the original {list(wanted)}")
        for name, value in wanted.items():
            demand(got[name] == value, f"{name} is {got[name]}, in the original {value}")
    return f"{len(dict(eager.named_parameters()))} parameters"


def _described(module: nn.Module, what: str) -> dict[str, tuple[object, ...]]:
    return {
        name: (tuple(t.shape), t.dtype, t.device, t.requires_grad)
        for name, t in getattr(module, f"named_{what}")()
    }


@point("interface", "state_dict loads into the replacement")
def state_forward(subject: Subject) -> str:
    """The original's new values, through a file, change the replacement's results."""
    pair = subject.fresh_pair()
    call(pair.new, subject.inputs())
    other = subject.file.build(seed=2)
    stream = io.BytesIO()
    torch.save(other.state_dict(), stream)
    stream.seek(0)
    pair.new.load_state_dict(torch.load(stream, weights_only=True))
    pair.eager = other
    return agree(pair, subject.inputs(), "after load_state_dict")


@point("interface", "state_dict loads back into the original")
def state_backward(subject: Subject) -> str:
    """The replacement's values have the original's names and sizes and are equal."""
    pair = subject.fresh_pair()
    fresh = subject.file.build(seed=2)
    state = pair.new.state_dict()
    demand(
        list(state) == list(pair.eager.state_dict()),
        f"keys {list(state)}, the original {list(pair.eager.state_dict())}",
    )
    fresh.load_state_dict(state)
    for name, value in pair.eager.state_dict().items():
        demand(torch.equal(fresh.state_dict()[name], value), f"{name} has other values")
    return f"{len(state)} entries"


@point("interface", "train() and eval() are followed")
def training_flag(subject: Subject) -> str:
    """The flag of the module and of its children."""
    pair = subject.fresh_pair()
    for mode in (True, False):
        pair.eager.train(mode)
        pair.new.train(mode)
        demand(pair.new.training == mode, f"training is {pair.new.training} after train({mode})")
        children = [m.training for m in pair.new.modules()]
        demand(all(c == mode for c in children), f"a child ignores train({mode})")
    return ""


@point("interface", "copy.deepcopy gives an independent module")
def deep_copy(subject: Subject) -> str:
    """Equal results, and a change to the copy leaves the first alone."""
    pair, inputs = subject.fresh_pair(), subject.inputs()
    for _ in range(2):
        before = call(pair.new, inputs).result
    twin = copy.deepcopy(pair.new)
    agree(Pair(pair.eager, twin), inputs, "the copy")
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(1.0)
    demand(identical(before, call(pair.new, inputs).result), "changing the copy changes the first")
    return ""


@point("interface", "pickle gives an equal module")
def pickled(subject: Subject) -> str:
    """Where the original can be pickled; before and after a call."""
    pair, inputs = subject.fresh_pair(), subject.inputs()
    try:
        _pickled(pair.eager)
    except Exception as error:
        what = f"the original cannot be pickled: {describe(error)}"
        raise InapplicableError(what) from None
    agree(Pair(pair.eager, _pickled(pair.new)), inputs, "the pickled module")
    call(pair.new, inputs)
    return agree(Pair(pair.eager, _pickled(pair.new)), inputs, "after a call")


def _pickled(module: nn.Module) -> nn.Module:
    made: nn.Module = pickle.loads(pickle.dumps(module))  # noqa: S301
    return made


@point("interface", "torch.compile takes it")
def compiled(subject: Subject) -> str:
    """Through Dynamo, which looks into the module; no code is generated."""
    pair, inputs = subject.fresh_pair(), subject.inputs()
    dynamo = importlib.import_module("torch._dynamo")  # slow to import
    try:
        dynamo.reset()
        original: Any = torch.compile(pair.eager, backend="eager")
        eager = call(original, inputs)
        if eager.error is not None:
            what = f"torch.compile refuses the original: {describe(eager.error)}"
            raise InapplicableError(what)
        new: Any = torch.compile(pair.new, backend="eager")
        for seed in (1, 2):
            said = agree(Pair(pair.eager, new), subject.inputs(seed), "compiled")
    finally:
        dynamo.reset()
    return said


@point("interface", "moves to other dtypes as the original does")
def dtypes(subject: Subject) -> str:
    """`.double()` and `.bfloat16()`, each made before and after the replacement."""
    done = []
    for dtype in (torch.float64, torch.bfloat16):
        pair = subject.fresh_pair()
        inputs = [x.to(dtype) if x.is_floating_point() else x for x in subject.inputs()]
        pair.eager.to(dtype)
        pair.new.to(dtype)
        agree(pair, inputs, f"after .to({dtype})")
        agree(subject.fresh_pair(methodcaller("to", dtype)), inputs, f"made in {dtype}")
        done.append(str(dtype).removeprefix("torch."))
    return ", ".join(done)
