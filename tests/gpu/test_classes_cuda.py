"""The classes of numbers on GPUs: what each promises, and that PyTorch's switches are followed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import class_cases
import dropins
import segue
from gpu_launch import launch, outputs_of
from segue import cuda

pytestmark = pytest.mark.sm(80)
COUNT = 51


@pytest.mark.parametrize("name", class_cases.CLASSES)
def test_random_convolutions(name: str) -> None:
    """By every strategy that takes them."""
    cuda.use_nvrtc()
    cases = [class_cases.draw(name, number) for number in range(COUNT)]
    programs = [
        class_cases.compiled(case, "0", class_cases.family_of(number))
        for number, case in enumerate(cases)
    ]
    with ThreadPoolExecutor(os.cpu_count() or 4) as pool:
        list(pool.map(lambda program: program.build(0), programs))
    wrong, strategies = [], set()
    device = torch.device("cuda")
    for number, (case, program) in enumerate(zip(cases, programs, strict=True)):
        generator = torch.Generator("cuda").manual_seed(number)
        inputs = class_cases.inputs_of(name, number, case, device, generator)
        _, outputs = outputs_of(program, device)
        strategy = class_cases.strategy_of(program)
        strategies.add(strategy)
        try:
            launch(program, inputs, outputs)
            torch.cuda.synchronize()
        except RuntimeError as error:  # the device is lost: what follows cannot be told apart
            pytest.fail(f"{name} {number} ({strategy}): {error}\n{case.inputs}\n{case.text}")
        found = class_cases.problem(name, case, strategy, outputs[0], inputs)
        if found:
            wrong.append(f"{name} {number} ({strategy}): {found}\n{case.inputs}\n{case.text}")
    print(name, sorted(strategies))
    assert not wrong, f"{len(wrong)} wrong\n" + "\n".join(wrong[:3])


# ---- switches ----------------------------------------------------------------------------------


class Model(nn.Module):
    """A convolution that cuDNN runs in TF32 where it may, and a tail."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(64, 64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) * 2.0)


@pytest.fixture
def model() -> Model:
    return Model().cuda()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(8, 64, 96, 96, device="cuda")


@pytest.fixture
def fresh_switches() -> Iterator[None]:
    """Nothing said of convolutions, so that they follow what is; afterwards PyTorch's defaults."""
    torch.backends.cudnn.allow_tf32 = False
    yield
    if hasattr(torch.backends, "fp32_precision"):
        torch.backends.fp32_precision = "none"
        torch.backends.cudnn.fp32_precision = "none"
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = True


def _set(path: str) -> Callable[[Any], None]:
    *parts, last = path.split(".")

    def change(value: Any) -> None:
        holder: Any = torch.backends
        for part in parts:
            holder = getattr(holder, part)
        setattr(holder, last, value)

    return change


SWITCHES = {
    "cudnn.allow_tf32": (_set("cudnn.allow_tf32"), (True, False)),
    "cudnn.conv.fp32_precision": (_set("cudnn.conv.fp32_precision"), ("tf32", "ieee")),
    "cudnn.fp32_precision": (_set("cudnn.fp32_precision"), ("tf32", "ieee")),
    "fp32_precision": (_set("fp32_precision"), ("tf32", "ieee")),
}


def class_now(fast: nn.Module) -> str:
    """Of the entry that the last call ran."""
    plan = dropins.runtime_of(fast).last
    assert plan is not None
    found = [step.precision for step in plan.steps if step.precision]
    return found[0] if found else ""


@pytest.mark.parametrize("name", SWITCHES)
def test_a_flipped_switch_holds_at_the_next_call(
    name: str, model: Model, x: Tensor, fresh_switches: None
) -> None:
    if name != "cudnn.allow_tf32" and not hasattr(torch._C, "_get_fp32_precision_getter"):
        pytest.skip("this PyTorch has no such switch")
    change, (on, off) = SWITCHES[name]
    fast = dropins.forced(model)
    truth = dropins.in_double(model, (x,))
    with torch.no_grad():
        for value in (off, on, off, on, off):
            change(value)
            eager, result = model(x), fast(x)
            assert float((result - eager).abs().max()) < 2e-5
            exact = float((result - truth).abs().max()) < 2e-5
            assert exact == (value is off or value == off), f"{name} = {value}"
    dropins.assert_fused(fast)
    assert len(dropins.runtime_of(fast).calls.entries) == 2


def test_matrix_products_have_a_switch_of_their_own(model: Model, x: Tensor) -> None:
    """It does not change what convolutions are, and products that PyTorch runs follow it."""

    class Product(Model):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.conv(x))
            return torch.tanh(torch.bmm(y.flatten(2), y.flatten(2).transpose(1, 2)) * 1e-4)

    made = Product().cuda()
    fast = dropins.forced(made)
    with torch.no_grad(), strictly():
        for allowed in ("highest", "high", "highest"):
            torch.set_float32_matmul_precision(allowed)
            try:
                torch.testing.assert_close(fast(x), made(x), rtol=2e-5, atol=2e-5)
                assert class_now(fast) == "fp32"
            finally:
                torch.set_float32_matmul_precision("highest")


@contextlib.contextmanager
def strictly() -> Iterator[None]:
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=False, allow_tf32=False
    ):
        yield


# ---- named classes -----------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [True, False])
def test_a_class_named_for_a_call(model: Model, x: Tensor, allowed: bool) -> None:
    """Whatever PyTorch would take there."""
    fast = segue.optimize(model, fallback="silent")
    truth = dropins.in_double(model, (x,))
    seen = {}
    with (
        torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=False, allow_tf32=allowed
        ),
        torch.no_grad(),
    ):
        for name in ("fp32", "tf32", "plain_tf32", "match", "fp32"):
            with segue.use_precision(name):
                seen[name] = float((fast(x) - truth).abs().max())
        with segue.use_precision("plain_tf32"):
            explained = segue.explain(fast, x)
    assert seen["fp32"] < 2e-5 < seen["tf32"]
    assert 2e-5 < seen["plain_tf32"] < 1e-2
    assert (seen["match"] < 2e-5) != allowed
    assert "Precision: plain_tf32" in explained
    assert "wgmma" not in explained


def test_plain_tf32_keeps_what_is_small_beside_what_is_huge() -> None:
    """Accuracy that the half carrier does not promise."""
    model = nn.Sequential(nn.Conv2d(16, 32, 3, bias=False), nn.LeakyReLU()).cuda()
    x = torch.randn(2, 16, 30, 30, device="cuda")
    x[:, :, :15] *= 1e30
    fast = segue.optimize(model, precision="plain_tf32", fallback="silent")
    small = slice(16, 28)
    with torch.no_grad():
        result = fast(x)[:, :, small]
        truth = dropins.in_double(model, (x,))[:, :, small]
    dropins.assert_fused(fast)
    assert float((result - truth).abs().max() / truth.abs().max()) < 1e-3


# ---- autocast ----------------------------------------------------------------------------------

TAILS: dict[str, Callable[[Tensor], Tensor]] = {
    "stays half": lambda y: torch.tanh(y * 0.5).amin(1, keepdim=True),
    "softmax in float32": lambda y: torch.softmax(y, 1),
    "sum in float32": lambda y: torch.sum(torch.relu(y), 1),
    "operators that PyTorch runs": lambda y: F.max_pool2d(torch.relu(y), 2) * 2.0,
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("tail", TAILS)
def test_autocast(tail: str, dtype: torch.dtype, model: Model, x: Tensor) -> None:
    """As near to float64 as eager is, in eager's dtype; and off again afterwards."""
    function = TAILS[tail]

    class Tailed(Model):
        def forward(self, x: Tensor) -> Tensor:
            return function(self.conv(x))

    made = Tailed().cuda()
    fast = dropins.forced(made)
    truth = dropins.in_double(made, (x,))
    with torch.autocast("cuda", dtype):
        explained = segue.explain(fast, x)
    assert ("run by PyTorch" in explained) == (tail == "operators that PyTorch runs"), explained
    with torch.no_grad():
        plain = made(x)
        for _ in range(2):
            with torch.autocast("cuda", dtype):
                eager = made(x)
                for _ in range(2):
                    result = fast(x)
                dropins.assert_fused(fast)
            dropins.assert_as_good(result, eager, truth)
            torch.testing.assert_close(fast(x), plain, rtol=2e-4, atol=2e-4)


def test_gradients_under_autocast(model: Model, x: Tensor) -> None:
    fast = dropins.forced(model)
    found = []
    for each in (model, fast, fast):
        model.zero_grad()
        with torch.autocast("cuda", torch.float16):
            result = each(x)
        (result.float().square().mean() * 64).backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for gradients in found[1:]:
        for a, e in zip(gradients, found[0], strict=True):
            torch.testing.assert_close(a, e, rtol=1e-2, atol=1e-2 * float(e.abs().max()))
