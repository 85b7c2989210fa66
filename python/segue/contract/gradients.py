"""Gradients: training a replacement is training the original."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segue.accuracy import close, relative_error, tensors, widen
from segue.modelfile import describe

from .compare import detached, near
from .point import InapplicableError, demand, point
from .subject import Subject

# min and max send a gradient to one place; a rounding that moves it changes elements, not this.
DISTANCE = 1e-4


def _gradients(module: nn.Module, inputs: Sequence[Any], seed: int) -> dict[str, Tensor]:
    """Of a random weighting of the result, for the inputs and every parameter."""
    copies = [x.detach().clone().requires_grad_() if _differentiable(x) else x for x in inputs]
    module.zero_grad(set_to_none=True)
    loss: Any = 0.0
    for t in tensors(forward(module, copies)):
        if t.is_floating_point() and t.requires_grad:
            generator = torch.Generator().manual_seed(seed)
            weights = torch.randn(t.shape, generator=generator).to(t.device, t.dtype)
            loss = loss + (t * weights).sum().double()
    if not isinstance(loss, Tensor):
        return {}
    loss.backward()
    found = {f"input {i}": x.grad for i, x in enumerate(copies) if _differentiable(x)}
    found |= {name: p.grad for name, p in module.named_parameters()}
    return {name: g for name, g in found.items() if g is not None}


def forward(module: nn.Module, inputs: Sequence[Any]) -> Any:
    """A call with gradients. A replacement without them may say so; it may not lose them."""
    try:
        return module(*inputs)
    except RuntimeError as error:
        if "gradient" not in str(error).lower():
            raise
        raise InapplicableError(f"no gradients, which a sentence says: {describe(error)}") from None


def _differentiable(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def _compare(subject: Subject, train: bool) -> str:
    pair, inputs = subject.fresh_pair(), subject.inputs(51)
    wide = copy.deepcopy(pair.eager).double().train(train)
    eager = _gradients(pair.eager.train(train), inputs, 52)
    if not eager:
        raise InapplicableError("the original has no gradients")
    new = _gradients(pair.new.train(train), inputs, 52)
    truth = _gradients(wide, widen(list(inputs)), 52)
    demand(list(new) == list(eager), f"gradients for {list(new)}, the original {list(eager)}")
    worst = 0.0
    for name, wanted in eager.items():
        got = new[name]
        demand(got.shape == wanted.shape, f"{name}: shape {tuple(got.shape)}")
        apart = relative_error(got, wanted)
        error, own = relative_error(got, truth[name]), relative_error(wanted, truth[name])
        good = apart <= DISTANCE or error <= 1.1 * own
        demand(good, f"{name}: {apart:.2g} from eager's; error {error:.2g}, eager's {own:.2g}")
        worst = max(worst, apart)
    return f"{len(eager)} gradients, at most {worst:.1g} from eager's"


@point("gradients", "of inputs and parameters")
def evaluation(subject: Subject) -> str:
    """In evaluation mode."""
    return _compare(subject, train=False)


@point("gradients", "in training mode")
def training(subject: Subject) -> str:
    """Where the original is not random."""
    pair, inputs = subject.fresh_pair(), subject.inputs(51)
    pair.eager.train()
    first, second = pair.eager(*detached(inputs)), pair.eager(*detached(inputs))
    if not close(first, second):
        raise InapplicableError("the original is random, or has a state, in training mode")
    return _compare(subject, train=True)


@point("gradients", "results require gradients when the original's do")
def requires_grad(subject: Subject) -> str:
    """With gradients on, without, and with frozen parameters."""
    pair, inputs = subject.fresh_pair(), subject.inputs()
    for frozen in (False, True):
        for module in (pair.eager, pair.new):
            module.requires_grad_(not frozen)
        for enabled in (True, False):
            with torch.set_grad_enabled(enabled):
                wanted = [t.requires_grad for t in tensors(pair.eager(*inputs))]
                got = [t.requires_grad for t in tensors(forward(pair.new, inputs))]
            where = f"gradients {'on' if enabled else 'off'}, frozen={frozen}"
            demand(got == wanted, f"{where}: requires_grad {got}, the original {wanted}")
    with torch.inference_mode():
        got = [t.is_inference() for t in tensors(pair.new(*inputs))]
        wanted = [t.is_inference() for t in tensors(pair.eager(*inputs))]
        demand(got == wanted, "inference_mode is not followed")
    return ""


@point("gradients", "one training step changes the results as in the original")
def step(subject: Subject) -> str:
    """Forward, backward, SGD, forward."""
    pair, inputs = subject.fresh_pair(), subject.inputs(53)
    if not list(pair.eager.parameters()):
        raise InapplicableError("the model has no parameters")
    results = []
    for module in (pair.eager, pair.new):
        if not _gradients(module, inputs, 54):
            demand(module is pair.eager, "no gradients")
            raise InapplicableError("the original has no gradients")
        norm = max(float(p.grad.norm()) for p in module.parameters() if p.grad is not None)
        torch.optim.SGD(module.parameters(), lr=0.1 / max(norm, 1e-12)).step()
        with torch.no_grad():
            results.append(module(*inputs))
    demand(near(results[1], results[0]), "results differ after the step")
    return ""
