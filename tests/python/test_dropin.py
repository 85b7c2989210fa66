"""The drop-in keeps the contract of a module: everything but the speed is the original's."""

from __future__ import annotations

import copy
import gc
import inspect
import io
import pickle
import threading
import warnings
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dropins
import segue


class Model(nn.Module):
    """A convolution, a reduction over channels, a few pointwise operators."""

    def __init__(self, channels: int = 8, factor: float = 2.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.shift: Tensor
        self.register_buffer("shift", torch.tensor(0.25))
        self.factor = factor

    def forward(self, x: Tensor, add: float = 0.0) -> Tensor:
        """(N, 3, H, W) to (N, 1, H - 2, W - 2)."""
        y = self.conv(x) * self.factor
        y = torch.amin(y, dim=1, keepdim=True)
        return torch.tanh(y * self.scale + self.shift) + add


class Mixed(nn.Module):
    """Two parts that fuse, with an operator between them that only PyTorch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = torch.relu(self.conv(x) + 1.0)
        z = F.max_pool2d(y, 2)
        return {"sum": torch.tanh(z * 2.0).sum(1), "all": [y * 3.0, 7]}


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 9, 11)


@pytest.fixture
def model() -> Model:
    return Model()


def agree(dropin: nn.Module, original: nn.Module, *inputs: Any, fused: bool = True) -> None:
    """Twice, for the first call prepares."""
    with torch.no_grad():
        expected = original(*inputs)
        truth = dropins.in_double(original, inputs)
        for _ in range(2):
            dropins.assert_as_good(dropin(*inputs), expected, truth, 8)
    assert dropins.fused(dropin) == fused, dropins.runtime_of(dropin).reason


def test_results(model: Model, x: Tensor) -> None:
    agree(dropins.forced(model), model, x)


def test_several_steps_and_structured_results(x: Tensor) -> None:
    module = Mixed()
    dropin = dropins.forced(module)
    with torch.no_grad():
        expected = module(x)
        for _ in range(2):
            actual = dropin(x)
            assert list(actual) == ["sum", "all"]
            assert actual["all"][1] == 7
            torch.testing.assert_close(actual["sum"], expected["sum"])
            torch.testing.assert_close(actual["all"][0], expected["all"][0])
    assert dropins.newest(dropin).runner is not None


def test_it_looks_like_the_original(model: Model) -> None:
    dropin = segue.optimize(model)
    assert isinstance(dropin, Model)
    assert type(dropin).__name__ == "Model"
    assert repr(dropin) == repr(model)
    assert list(dropin.state_dict()) == list(model.state_dict())
    assert dict(dropin.named_parameters()).keys() == dict(model.named_parameters()).keys()
    assert inspect.signature(dropin.forward) == inspect.signature(model.forward)
    assert dropin.factor == 2.0
    assert dropin.conv is model.conv
    assert next(dropin.parameters()) is next(model.parameters())
    assert type(model) is Model


def test_optimizing_a_drop_in_again(model: Model, x: Tensor) -> None:
    again = dropins.forced(dropins.forced(model))
    assert type(again) is type(dropins.forced(model))
    agree(again, model, x)


# ---- layouts -----------------------------------------------------------------------------------

LAYOUTS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3),
    "sliced": lambda x: x[:, :, ::2, 1:],
    "expanded": lambda x: x[:1].expand(4, -1, -1, -1),
    "expanded_channels": lambda x: x[:, :1].expand(-1, 3, -1, -1),
    "one": lambda x: x[:1],
    "empty_batch": lambda x: x[:0],
    "offset": lambda x: torch.cat([x, x])[1:3],
}


@pytest.mark.parametrize("change", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("weights", ("contiguous", "channels_last"))
def test_strides(model: Model, x: Tensor, change: Any, weights: str) -> None:
    if weights == "channels_last":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    agree(dropins.forced(model), model, change(x))


def test_every_result_keeps_its_strides(x: Tensor) -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            y = torch.relu(self.conv(x))
            return y, y.permute(0, 2, 3, 1) * 2.0, y.amax(1)

    module = Wide()
    for form in (torch.contiguous_format, torch.channels_last):
        inputs = x.contiguous(memory_format=form)
        dropin = dropins.forced(module)
        with torch.no_grad():
            for actual, expected in zip(dropin(inputs), module(inputs), strict=True):
                dropins.assert_same_layout(actual, expected)
                torch.testing.assert_close(actual, expected)


# ---- live state --------------------------------------------------------------------------------


def replace(model: Any) -> None:
    model.conv.weight = nn.Parameter(torch.randn_like(model.conv.weight))


def data_copy(model: Any) -> None:
    model.conv.weight.data = torch.randn_like(model.conv.weight)


def other_strides(model: Any) -> None:
    weight = model.conv.weight
    weight.data = weight.data.to(memory_format=torch.channels_last)


CHANGES = {
    "in_place": lambda m: m.conv.weight.data.mul_(-2.0),
    "buffer": lambda m: m.shift.fill_(-3.0),
    "data": data_copy,
    "strides": other_strides,
    "replaced": replace,
    "load_state_dict": lambda m: m.load_state_dict(Model().state_dict()),
    "assigned": lambda m: m.load_state_dict(Model().state_dict(), assign=True),
    "factor": lambda m: setattr(m, "factor", -1.0),
    "bias": lambda m: setattr(m.conv, "bias", None),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_are_seen(model: Model, x: Tensor, change: Any) -> None:
    dropin = dropins.forced(model)
    agree(dropin, model, x)
    with torch.no_grad():
        change(dropin)
        if dropin.factor != model.factor:
            model.factor = -1.0
        agree(dropin, model, x)


def test_dtypes_change(model: Model, x: Tensor) -> None:
    dropin = dropins.forced(model)
    agree(dropin, model, x)
    dropin.double()
    agree(dropin, model, x.double())


def test_a_replaced_parameter_does_not_compile_again(model: Model, x: Tensor) -> None:
    dropin = dropins.forced(model)
    agree(dropin, model, x)
    program = dropins.newest(dropin).program
    replace(model)
    agree(dropin, model, x)
    assert dropins.newest(dropin).program is program


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(torch.relu(self.conv(x)), 0.5, self.training) + 1.0


def test_training_and_eval(x: Tensor) -> None:
    module = Dropping().eval()
    dropin = dropins.forced(module)
    agree(dropin, module, x)
    dropin.train()
    module.train()
    with torch.no_grad():
        torch.manual_seed(1)
        expected = module(x)
        for _ in range(2):
            torch.manual_seed(1)
            assert torch.equal(dropin(x), expected)
    dropin.eval()
    module.eval()
    agree(dropin, module, x)


class Forgetful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.relu(self.conv(x))


def test_side_effects_happen_once_a_call(x: Tensor) -> None:
    dropin = dropins.forced(Forgetful())
    for _ in range(50):
        dropin(x)
    assert dropin.calls == 50


def test_batch_norm_in_training(x: Tensor) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    other = copy.deepcopy(module)
    dropin = dropins.forced(other)
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(dropin(x), module(x))
    assert torch.equal(other[1].running_mean, module[1].running_mean)  # type: ignore[arg-type]
    assert int(other[1].num_batches_tracked) == 3  # type: ignore[arg-type]


# ---- hooks, modes and other inputs -------------------------------------------------------------


def test_hooks_on_submodules(model: Model, x: Tensor) -> None:
    dropin = dropins.forced(model)
    agree(dropin, model, x)
    handle = model.conv.register_forward_hook(lambda m, i, o: o * 0.0)
    agree(dropin, model, x, fused=False)
    handle.remove()
    agree(dropin, model, x)


def test_own_hooks(model: Model, x: Tensor) -> None:
    dropin = dropins.forced(model)
    seen: list[str] = []
    dropin.register_forward_pre_hook(lambda m, i: seen.append("before"))
    dropin.register_forward_hook(lambda m, i, o: seen.append("after"))
    with torch.no_grad():
        dropin(x)
        dropin(x)
    assert seen == ["before", "after"] * 2


def test_global_hooks(model: Model, x: Tensor) -> None:
    dropin = dropins.forced(model)
    agree(dropin, model, x)
    seen: list[nn.Module] = []
    handle = nn.modules.module.register_module_forward_hook(lambda m, i, o: seen.append(m))
    with torch.no_grad():
        dropin(x)
    handle.remove()
    assert model.conv in seen


def test_default_device(model: Model, x: Tensor) -> None:
    with torch.device("cpu"):
        agree(dropins.forced(model), model, x)


def test_transforms(model: Model, x: Tensor) -> None:
    dropin = dropins.forced(model)
    agree(dropin, model, x)
    with torch.no_grad():
        batched = torch.vmap(dropin)(x[None])
        torch.testing.assert_close(batched, torch.vmap(model)(x[None]))
        actual = torch.func.jvp(dropin, (x,), (x,))
        expected = torch.func.jvp(model, (x,), (x,))
    torch.testing.assert_close(actual, expected)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x)
        assert torch.autograd.forward_ad.unpack_dual(dropin(dual)).tangent is not None


def test_functional_call(model: Model, x: Tensor) -> None:
    dropin = dropins.forced(model)
    agree(dropin, model, x)
    state = {k: torch.randn_like(v) for k, v in model.state_dict().items()}
    with torch.no_grad():
        expected = torch.func.functional_call(model, state, (x,))
        for _ in range(3):
            actual = torch.func.functional_call(dropin, state, (x,))
            torch.testing.assert_close(actual, expected)
    agree(dropin, model, x)


class Subclass(Tensor):
    pass


def test_other_tensors(model: Model, x: Tensor) -> None:
    dropin = dropins.forced(model)
    agree(dropin, model, x)
    with torch.no_grad():
        assert type(dropin(x.as_subclass(Subclass))) is Subclass
        meta = copy.deepcopy(dropin).to("meta")
        assert meta(x.to("meta")).shape == (2, 1, 7, 9)
        negative = torch.complex(x, x).conj().imag
        assert negative.is_neg()
        torch.testing.assert_close(dropin(negative), model(negative))


def test_inference_mode(model: Model, x: Tensor) -> None:
    dropin = dropins.forced(model)
    with torch.inference_mode():
        torch.testing.assert_close(dropin(x), model(x))
        out = dropin(x)
        assert out.is_inference()
    agree(dropin, model, x)


def test_tracing(model: Model, x: Tensor) -> None:
    dropin = dropins.forced(model.eval())
    agree(dropin, model, x)
    traced = torch.jit.trace(dropin, (x,))
    kinds = [node.kind() for node in traced.inlined_graph.nodes()]
    assert "aten::_convolution" in kinds
    exported = torch.export.export(dropin, (x,))
    assert any("conv" in str(node.target) for node in exported.graph.nodes)


BAD = {
    "channels": (torch.randn(2, 4, 9, 11),),
    "dtype": (torch.randn(2, 3, 9, 11).double(),),
    "integers": (torch.ones(2, 3, 9, 11, dtype=torch.int64),),
    "rank": (torch.randn(3),),
    "none": (None,),
    "nothing": (),
    "too_many": (torch.randn(2, 3, 9, 11), 1.0, 2.0),
    "string": ("x",),
}


@pytest.mark.parametrize("inputs", BAD.values(), ids=BAD)
def test_errors_are_the_originals(model: Model, x: Tensor, inputs: tuple[Any, ...]) -> None:
    dropin = dropins.forced(model)
    agree(dropin, model, x)
    with pytest.raises(Exception) as expected:
        model(*inputs)
    for _ in range(2):
        with pytest.raises(expected.type) as actual:
            dropin(*inputs)
        assert str(actual.value) == str(expected.value)


def test_numbers_and_names_are_part_of_the_signature(model: Model, x: Tensor) -> None:
    dropin = dropins.forced(model)
    with torch.no_grad():
        for _ in range(2):
            for add in (0.0, 1.0, 2):
                torch.testing.assert_close(dropin(x, add), model(x, add))
                torch.testing.assert_close(dropin(x, add=add), model(x, add=add))
                torch.testing.assert_close(dropin(x=x, add=add), model(x, add))
    assert len(dropins.runtime_of(dropin).calls.entries) == 9


def test_zeros_of_both_signs_are_told_apart() -> None:
    class Divides(nn.Module):
        def forward(self, x: Tensor, by: float) -> Tensor:
            return x.abs() / by

    dropin = dropins.forced(Divides())
    x = torch.ones(8)
    assert dropin(x, 0.0)[0] == torch.inf
    assert dropin(x, -0.0)[0] == -torch.inf
    assert dropin(x, 0.0)[0] == torch.inf


def test_many_signatures_are_bounded(model: Model) -> None:
    dropin = dropins.forced(model)
    with torch.no_grad():
        for width in range(3, 43):
            y = torch.randn(1, 3, 5, width)
            torch.testing.assert_close(dropin(y), model(y))
    assert len(dropins.runtime_of(dropin).calls.entries) <= 16


# ---- copies, threads, memory -------------------------------------------------------------------


def test_copies(model: Model, x: Tensor) -> None:
    dropin = dropins.forced(model)
    agree(dropin, model, x)
    for made in (copy.copy(dropin), copy.deepcopy(dropin), pickle.loads(pickle.dumps(dropin))):
        assert type(made) is type(dropin)
        agree(made, model, x)
    deep: Any = copy.deepcopy(dropin)
    with torch.no_grad():
        deep.conv.weight.zero_()
    agree(dropin, model, x)
    file = io.BytesIO()
    torch.save(dropin, file)
    file.seek(0)
    agree(torch.load(file, weights_only=False), model, x)


def test_copied_attributes_do_not_bring_the_programs(model: Model, x: Tensor) -> None:
    """As nn.DataParallel makes replicas."""
    dropin = dropins.forced(model)
    agree(dropin, model, x)
    replica: Any = dropin._replicate_for_data_parallel()
    replica._parameters.update(model._parameters)
    replica.factor = 5.0
    other = copy.deepcopy(model)
    other.factor = 5.0
    agree(replica, other, x)
    agree(dropin, model, x)


def test_threads(model: Model, x: Tensor) -> None:
    dropin = dropins.forced(model)
    inputs = [torch.randn(1 + i % 3, 3, 9, 11) for i in range(8)]
    with torch.no_grad():
        expected = [model(y) for y in inputs]
    failures: list[int] = []
    finished: list[int] = []

    def right(i: int) -> bool:
        result = dropin(inputs[i])
        return result.shape == expected[i].shape and torch.allclose(result, expected[i], atol=1e-5)

    def work(i: int) -> None:
        with torch.no_grad():
            failures.extend(i for _ in range(40) if not right(i))
            finished.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(finished) == len(threads)


def test_a_drop_in_is_collected(x: Tensor) -> None:
    model = Model()
    dropin = dropins.forced(model)
    agree(dropin, model, x)
    gone = weakref.ref(dropin)
    kept = weakref.ref(model.conv.weight)
    del dropin, model
    gc.collect()
    assert gone() is None
    assert kept() is None


def test_results_are_new_each_time(model: Model, x: Tensor) -> None:
    dropin = dropins.forced(model)
    with torch.no_grad():
        first = dropin(x)
        before = first.clone()
        second = dropin(x * 2.0)
    assert first.data_ptr() != second.data_ptr()
    assert torch.equal(first, before)


# ---- what the caller is told -------------------------------------------------------------------


def test_fallback(x: Tensor) -> None:
    class Random(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand_like(x)

    with pytest.warns(segue.SegueWarning, match="draws random numbers"):
        segue.optimize(Random(), x)
    with pytest.raises(segue.NotApplicable, match="Random runs through PyTorch"):
        segue.optimize(Random(), x, fallback="error")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silent = segue.optimize(Random(), x, fallback="silent")
        silent(x)
        warned_late = segue.optimize(Random())
    with pytest.warns(segue.SegueWarning):
        warned_late(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warned_late(x)


def test_sizes_left_to_pytorch_are_no_news(model: Model) -> None:
    big, small = torch.randn(8, 3, 128, 128), torch.randn(1, 3, 3, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dropin = segue.optimize(model, big, fallback="error")
        with torch.no_grad():
            for x in (big, small):
                torch.testing.assert_close(dropin(x), model(x))


def test_wrong_options(model: Model) -> None:
    with pytest.raises(TypeError, match=r"takes a torch\.nn\.Module, not a int"):
        segue.optimize(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="accepted: match"):
        segue.optimize(model, precision="double")
    with pytest.raises(ValueError, match="accepted: warn, error, silent"):
        segue.optimize(model, fallback="loud")


def test_script_modules_are_left_alone(model: Model) -> None:
    scripted = torch.jit.script(model)
    with pytest.warns(segue.SegueWarning, match="TorchScript"):
        assert segue.optimize(scripted) is scripted


def test_explain(model: Model) -> None:
    big = torch.randn(8, 3, 128, 128)
    explanation = segue.explain(model, big)
    assert explanation.kernels == 1
    assert "amin" in explanation
    assert "graph Model" in explanation.graph
    assert explanation.flops > 0
    assert str(segue.explain(segue.optimize(model, big), big)) == str(explanation)
    mixed = segue.explain(Mixed(), torch.randn(8, 3, 128, 128))
    assert "aten.max_pool2d_with_indices.default" in mixed
    assert "no operator of Segue's table" in mixed


class Copies(nn.Module):
    """Copies that change nothing but strides, of values that are wanted by themselves or not."""

    def __init__(self, also: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.also = also

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = torch.tanh(self.conv(x) * 2)
        turned = y.transpose(1, 2).contiguous()
        if not self.also:
            return (turned,)
        last = y.contiguous(memory_format=torch.channels_last)
        return y, turned, last, y[:, :, ::2, ::2].contiguous(), x.transpose(2, 3).contiguous()


@pytest.mark.parametrize("also", [False, True])
def test_copied_results(also: bool) -> None:
    module, x = Copies(also), torch.rand(2, 3, 12, 10)
    dropin = dropins.forced(module)
    with torch.no_grad():
        for _ in range(2):
            for result, wanted in zip(dropin(x), module(x), strict=True):
                torch.testing.assert_close(result, wanted)
                assert result.stride() == wanted.stride()
    dropins.assert_fused(dropin)
