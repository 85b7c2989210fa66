"""The contract of a drop-in on GPUs: everything but the speed is the original's."""

from __future__ import annotations

import copy
import threading
import time
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dropins
import segue
from segue import precision
from segue.dynamo import backend

pytestmark = pytest.mark.sm(80)
CLOSE = {
    torch.float32: 1e-4,
    torch.float16: 1e-2,
    torch.bfloat16: 4e-2,
    torch.float64: 1e-10,
}


class Model(nn.Module):
    """A convolution, pointwise operators, a reduction over channels."""

    def __init__(self, channels: int = 16, features: int = 32) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, features, 3)
        self.shift = nn.Parameter(torch.randn(features, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 1, H - 2, W - 2)."""
        return torch.tanh(self.conv(x) * 2.0 + self.shift).amin(1, keepdim=True)


class Mixed(nn.Module):
    """Two parts that fuse, with an operator between them that only PyTorch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 3)

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = torch.relu(self.conv(x) + 1.0)
        z = F.max_pool2d(y, 2)
        return {"sum": torch.tanh(z * 2.0).sum(1), "all": [torch.sigmoid(y) * 3.0, 7]}


@pytest.fixture
def model() -> Model:
    return Model().cuda()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(4, 16, 37, 50, device="cuda")


def assert_same(actual: Tensor, expected: Tensor) -> None:
    dropins.assert_same_layout(actual, expected)
    tolerance = CLOSE[expected.dtype]
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def agree(fast: nn.Module, model: nn.Module, *inputs: Any, fused: bool = True) -> None:
    with torch.no_grad():
        expected = model(*inputs)
        for _ in range(2):
            assert_same(fast(*inputs), expected)
    assert dropins.fused(fast) == fused, dropins.runtime_of(fast).reason


def test_results(model: Model, x: Tensor) -> None:
    agree(dropins.forced(model), model, x)


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
def test_dtypes(model: Model, x: Tensor, dtype: torch.dtype) -> None:
    agree(dropins.forced(model.to(dtype)), model, x.to(dtype))


def test_several_steps() -> None:
    model, x = Mixed().cuda(), torch.randn(2, 8, 20, 22, device="cuda")
    fast = dropins.forced(model)
    with torch.no_grad():
        expected = model(x)
        for _ in range(2):
            actual = fast(x)
            assert_same(actual["sum"], expected["sum"])
            assert_same(actual["all"][0], expected["all"][0])
    dropins.assert_fused(fast)


LAYOUTS = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "sliced": lambda x: F.pad(x, (3, 4, 1, 2))[:, :, 1:-2, 3:-4],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "expanded": lambda x: x[:1].expand_as(x),
    "misaligned": lambda x: torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape),
    "one image": lambda x: x[:1],
    "no image": lambda x: x[:0],
    "one pixel": lambda x: x[:, :, :3, :3],
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_layouts(model: Model, x: Tensor, kind: str) -> None:
    fast = dropins.forced(model)
    agree(fast, model, x)
    laid = LAYOUTS[kind](x)
    agree(fast, model, laid, fused=laid.numel() > 0 or dropins.fused(fast))
    agree(fast, model, x)


def test_channels_last_weights(model: Model, x: Tensor) -> None:
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    agree(dropins.forced(model), model, LAYOUTS["channels last"](x))


def test_alternating_alignment_is_prepared_once(model: Model, x: Tensor) -> None:
    fast = dropins.forced(model)
    odd = LAYOUTS["misaligned"](x)
    with torch.no_grad():
        for _ in range(3):
            fast(x), fast(odd)
    assert len(dropins.runtime_of(fast).calls.entries) == 2


def test_live_weights(model: Model, x: Tensor) -> None:
    fast = dropins.forced(model)
    agree(fast, model, x)
    with torch.no_grad():
        model.conv.weight.mul_(-1.5)
        agree(fast, model, x)
        model.conv.weight.data = torch.randn_like(model.conv.weight)
        agree(fast, model, x)
    other = Model().cuda()
    fast.load_state_dict(other.state_dict())
    agree(fast, other, x)
    fast.conv = copy.deepcopy(other.conv)
    agree(fast, other, x)


def test_moved_after_optimize(x: Tensor) -> None:
    model = Model()
    fast = dropins.forced(model)
    with torch.no_grad():
        fast(x.cpu())
        fast.cuda()
    agree(fast, model, x)


def test_nan_and_infinities(model: Model, x: Tensor) -> None:
    x[0, 0, 3, 3], x[1, 2, 9, 9], x[2, 5, 20, 20] = float("nan"), float("inf"), -float("inf")
    agree(dropins.forced(model), model, x)


def magnitudes_model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(16, 32, 3, bias=False), nn.LeakyReLU()).cuda()


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_images_keep_their_accuracy_whatever_stands_beside_them(scale: float) -> None:
    """What a user's tolerance cannot see: relative to the largest result of each image."""
    model = magnitudes_model()
    x = torch.randn(4, 16, 30, 30, device="cuda")
    x[::2] *= scale
    fast = dropins.forced(model)
    with torch.no_grad():
        expected = model(x)
        actual = [fast(x) for _ in range(2)][1]
    for a, e in zip(actual, expected, strict=True):
        assert float((a - e).abs().max() / e.abs().max()) < 1e-5
    dropins.assert_fused(fast)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_within_an_image_the_largest_sets_the_error(scale: float) -> None:
    """The bound of docs/numerics.md: beside 1e30 small numbers are not kept."""
    model = magnitudes_model()
    weight = model[0].weight.detach().double().abs()  # type: ignore[index]
    x = torch.randn(2, 16, 30, 30, device="cuda")
    x[:, :, :15] *= scale
    fast = dropins.forced(model)
    with torch.no_grad():
        expected = model(x).double()  # of the same class
        actual = [fast(x) for _ in range(2)][1].double()
        sums = F.conv2d(x.double().abs(), weight)
    largest = x.abs().amax((1, 2, 3), keepdim=True).double()
    allowed = 1e-5 * sums + 2.0**-18 * largest * weight.sum((1, 2, 3))[:, None, None]
    assert float(((actual - expected).abs() / allowed).max()) <= 1.0
    dropins.assert_fused(fast)
    # Rows of large numbers alone are as exact as they are by themselves.
    rows = slice(0, 12) if scale > 1 else slice(16, 28)
    a, e = actual[:, :, rows], expected[:, :, rows]
    assert float((a - e).abs().max() / e.abs().max()) < 1e-5


def test_dynamo(model: Model, x: Tensor) -> None:
    compiled = torch.compile(model, backend=backend)  # by name once the package is installed
    with torch.no_grad():
        expected = model(x)
        for _ in range(2):
            assert_same(compiled(x), expected)


# ---- the class of numbers ----------------------------------------------------------------------


def test_match_follows_the_switches(model: Model) -> None:
    x = torch.randn(8, 16, 128, 128, device="cuda")
    fast = dropins.forced(model)
    for allowed in (True, False, True):
        with (
            torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=False, allow_tf32=allowed
            ),
            torch.no_grad(),
        ):
            expected = model(x)
            for _ in range(2):
                actual = fast(x)
            assert float((actual - expected).abs().max()) < 2e-5, f"allow_tf32={allowed}"
            assert ("Precision: fp32" in segue.explain(fast, x)) or allowed


@pytest.mark.parametrize("name", precision.CLASSES)
def test_named_classes(model: Model, x: Tensor, name: str) -> None:
    fast = segue.optimize(model, x, precision=name, fallback="silent")
    if not dropins.fused(fast):
        pytest.skip("PyTorch is faster here")
    assert f"Precision: {name}" in segue.explain(fast, x)
    with torch.no_grad():
        truth = copy.deepcopy(model).double()(x.double())
        error = float((fast(x).double() - truth).abs().max())
    assert error < (1e-5 if name == "fp32" else 1e-2)


def test_random_numbers_are_left_alone(model: Model, x: Tensor) -> None:
    precision.forget()
    state = torch.cuda.get_rng_state()
    with torch.no_grad():
        dropins.forced(model)(x)
    assert torch.equal(torch.cuda.get_rng_state(), state)


# ---- streams, graphs, threads, devices ---------------------------------------------------------


def test_the_current_stream_is_used(model: Model, x: Tensor) -> None:
    fast = dropins.forced(model)
    agree(fast, model, x)
    stream = torch.cuda.Stream()
    late = torch.empty_like(x)
    with torch.no_grad(), torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late.copy_(x)  # not there yet for whoever does not wait
        result = fast(late)
        late.zero_()
    stream.synchronize()
    with torch.no_grad():
        assert_same(result, model(x))


def test_graphs(model: Model, x: Tensor) -> None:
    fast = dropins.forced(model)
    agree(fast, model, x)
    held = x.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        result = fast(held)
    for seed in range(3):
        torch.manual_seed(seed)
        held.copy_(torch.randn_like(held))
        with torch.no_grad():
            model.shift.add_(0.25)
            graph.replay()
            assert_same(result, model(held))


def test_a_first_call_inside_a_capture_says_what_to_do(model: Model, x: Tensor) -> None:
    fast = segue.optimize(model)
    with torch.no_grad():
        expected = model(x)
    graph = torch.cuda.CUDAGraph()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with torch.no_grad(), torch.cuda.graph(graph):
            result = fast(x)
    graph.replay()
    assert_same(result, expected)
    assert any("Call it once before" in str(w.message) for w in said)


def test_threads(model: Model) -> None:
    fast = dropins.forced(model)
    inputs = [torch.randn(2, 16, 20 + i % 3, 30, device="cuda") for i in range(12)]
    with torch.no_grad():
        expected = [model(x) for x in inputs]
    torch.cuda.synchronize()
    results: dict[int, Tensor] = {}

    def work(index: int) -> None:
        with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(20):
                results[index] = fast(inputs[index])
            torch.cuda.current_stream().synchronize()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, wanted in enumerate(expected):
        assert_same(results[index], wanted)


@pytest.mark.devices(2)
def test_two_devices(model: Model, x: Tensor) -> None:
    other, there = copy.deepcopy(model).to("cuda:1"), x.to("cuda:1")
    for fast, original, given in (
        (dropins.forced(model), model, x),
        (dropins.forced(other), other, there),
    ):
        for current in (0, 1):
            with torch.cuda.device(current):
                agree(fast, original, given)
    moved = dropins.forced(model)
    agree(moved, model, x)
    moved.to("cuda:1")
    agree(moved, other, there)


# ---- memory, time, gradients -------------------------------------------------------------------


def test_extra_memory(model: Model) -> None:
    x = torch.randn(16, 16, 128, 128, device="cuda")
    fast = dropins.forced(model)
    with torch.no_grad():
        for _ in range(2):
            result = fast(x)
        size = result.untyped_storage().nbytes()
        del result
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        fast(x)
        torch.cuda.synchronize()
    assert torch.cuda.max_memory_allocated() - before - size <= 1 << 20


def test_host_time(model: Model, x: Tensor) -> None:
    """10 us is the aim; whatever else the machine does may add to it."""
    fast = dropins.forced(model)
    best = float("inf")
    with torch.no_grad():
        fast(x), fast(x)
        for _ in range(20):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(50):
                fast(x)
            best = min(best, (time.perf_counter() - start) / 50)
    assert best < 15e-6 or best < 1.2 * kernel_seconds(fast, x), f"{best * 1e6:.1f} us a call"


def kernel_seconds(fast: nn.Module, x: Tensor) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.no_grad():
        torch.cuda.synchronize()
        start.record()
        for _ in range(50):
            fast(x)
        end.record()
        end.synchronize()
    return start.elapsed_time(end) / 50e3


def test_gradients(model: Model, x: Tensor) -> None:
    fast = dropins.forced(model)
    agree(fast, model, x)
    gradients = []
    for module in (model, fast):
        given = x.clone().requires_grad_()
        module(given).square().sum().backward()
        gradients.append([given.grad, *(p.grad for p in module.parameters())])
        module.zero_grad(set_to_none=True)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
