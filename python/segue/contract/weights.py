"""Live weights: every way to change a parameter is seen by the next call."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from segue.accuracy import identical

from .compare import agree, call, near
from .point import InapplicableError, demand, point
from .subject import Subject

Edit = Callable[[nn.Module], object]


def _after(subject: Subject, edit: Edit, where: str) -> str:
    """Calls both, edits both alike, and compares what they compute then."""
    pair, inputs = subject.fresh_pair(), subject.inputs(41)
    if not list(pair.eager.parameters()):
        raise InapplicableError("the model has no parameters")
    before = call(pair.eager, inputs).result
    for _ in range(2):  # whatever is prepared at a first call is prepared
        call(pair.new, inputs)
    edit(pair.eager)
    edit(pair.new)
    if identical(before, call(pair.eager, inputs).result):
        raise InapplicableError("the original's result does not depend on the parameters here")
    return agree(pair, inputs, where)


def _noise(p: Tensor) -> Tensor:
    """The same for both modules: what it draws depends on the size alone."""
    generator = torch.Generator().manual_seed(p.numel())
    drawn = torch.randn(p.shape, generator=generator, dtype=torch.float32)
    return drawn.to(p.device, p.dtype) * 0.1


@point("live weights", "an edit in place")
def in_place(subject: Subject) -> str:
    """`p.add_(...)` under no_grad."""

    def edit(module: nn.Module) -> None:
        with torch.no_grad():
            for p in module.parameters():
                p.add_(_noise(p))

    return _after(subject, edit, "after add_")


@point("live weights", "an edit of each parameter alone")
def one_by_one(subject: Subject) -> str:
    """One parameter at a time, the others as they are."""
    names = [n for n, _ in subject.pair.eager.named_parameters()]
    seen = 0
    for name in names:

        def edit(module: nn.Module, name: str = name) -> None:
            p = module.get_parameter(name)
            with torch.no_grad():
                p.add_(_noise(p) * 5)

        try:
            _after(subject, edit, f"after {name}.add_")
            seen += 1
        except InapplicableError:
            continue
    return f"{seen} of {len(names)} parameters matter"


@point("live weights", "an edit through .data")
def through_data(subject: Subject) -> str:
    """`p.data.mul_(...)`, which no version counter sees."""

    def edit(module: nn.Module) -> None:
        for p in module.parameters():
            p.data.mul_(1.5).add_(_noise(p))

    return _after(subject, edit, "after .data.mul_")


@point("live weights", "new memory through .data")
def new_data(subject: Subject) -> str:
    """`p.data = ...`."""

    def edit(module: nn.Module) -> None:
        for p in module.parameters():
            p.data = p.data + _noise(p)

    return _after(subject, edit, "after .data = ...")


@point("live weights", "load_state_dict")
def loaded(subject: Subject) -> str:
    """Another instance's values."""
    state = subject.file.build(seed=3).state_dict()
    return _after(subject, lambda m: m.load_state_dict(state), "after load_state_dict")


@point("live weights", "a parameter replaced by a new one")
def replaced(subject: Subject) -> str:
    """`module.weight = nn.Parameter(...)`."""

    def edit(module: nn.Module) -> None:
        for name, p in list(module.named_parameters()):
            parent, _, last = name.rpartition(".")
            new = nn.Parameter(p.detach() + _noise(p))
            setattr(module.get_submodule(parent), last, new)

    return _after(subject, edit, "after replacing the parameters")


@point("live weights", "an optimizer's step")
def optimizer_step(subject: Subject) -> str:
    """SGD on gradients set by hand."""

    def edit(module: nn.Module) -> None:
        for p in module.parameters():
            p.grad = _noise(p)
        torch.optim.SGD(module.parameters(), lr=0.5).step()

    return _after(subject, edit, "after SGD")


@point("live weights", "buffers")
def buffers(subject: Subject) -> str:
    """Floating buffers edited in place."""
    pair, inputs = subject.fresh_pair(), subject.inputs(42)
    if not [b for b in pair.eager.buffers() if b.is_floating_point()]:
        raise InapplicableError("the model has no floating buffers")
    call(pair.new, inputs)
    for module in (pair.eager, pair.new):
        for b in module.buffers():
            if b.is_floating_point():
                b.mul_(1.25)
    return agree(pair, inputs, "after editing the buffers")


@point("live weights", "torch.func.functional_call")
def functional(subject: Subject) -> str:
    """Parameters passed for one call."""
    pair, inputs = subject.fresh_pair(), subject.inputs(43)
    state = {n: p.detach() + _noise(p) for n, p in pair.eager.named_parameters()}
    if not state:
        raise InapplicableError("the model has no parameters")
    call(pair.new, inputs)
    with torch.no_grad():
        wanted = torch.func.functional_call(pair.eager, state, tuple(inputs))
        got = torch.func.functional_call(pair.new, state, tuple(inputs))
    demand(near(got, wanted), "the call used other parameters")
    return ""
