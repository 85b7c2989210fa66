"""The kernels of every strategy, run thread by thread on the host.

What races or is slow does not show here; what is computed wrongly does, without a GPU.
"""

import itertools
import math
import shutil
from pathlib import Path

import pytest
import torch
from emulate import Emulator
from torch import Tensor

import gpu_cases

STRATEGIES = (*gpu_cases.CARRIED, "mma", "implicit_gemm")
TEMPLATES = 10
VARIANTS = 2
FLOPS_MAX = 8e6
MAGNITUDES = {
    "huge": [1e30],
    "tiny": [1e-30],
    "subnormal": [1e-40],
    "huge and tiny": [1e30, 1.0, 1e-30],
    "over the half's range": [2000.0, 1.0],
}


@pytest.fixture
def emulator(build_dir: Path, tmp_path: Path) -> Emulator:
    """A place to build and run kernels; needs a C++ compiler."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if not compiler:
        pytest.skip("there is no C++ compiler")
    return Emulator(build_dir / "segue_launches", compiler, tmp_path)


@pytest.mark.parametrize("strategy", gpu_cases.FAMILIES)
def test_random_regions(strategy: str, emulator: Emulator, pytestconfig: pytest.Config) -> None:
    generator = torch.Generator().manual_seed(pytestconfig.getoption("--seed"))
    taken = 0
    for number in range(TEMPLATES):
        for variant in range(VARIANTS):
            case = gpu_cases.draw_case(strategy, number, variant)
            sizes = case.inputs[0][1]
            if gpu_cases.flops(case.template, sizes[0], sizes[2:]) > FLOPS_MAX:
                continue
            inputs = gpu_cases.values(case, torch.device("cpu"), generator)
            scales = [1.0, 2.0**40 if variant else 2.0**-40]
            scaled = strategy in gpu_cases.CARRIED and case.template.dtype == "f32"
            for scale in scales[: 1 + scaled]:
                whole = inputs[0].untyped_storage().nbytes() // inputs[0].itemsize
                inputs[0].as_strided((whole,), (1,), 0).mul_(scale)
                results = emulator.run(case, strategy, 3 * variant, inputs)
                if isinstance(results, str):
                    break
                wrong = gpu_cases.problem(case, results, inputs)
                where = f"{number} {variant}, times {scale}"
                assert not wrong, f"{where}: {wrong}\n{case.inputs}\n{case.text}"
            taken += not isinstance(results, str)
    assert taken >= TEMPLATES // 2, f"took {taken} cases only"


def plain(strategy: str, precision: str, images: int = 2) -> gpu_cases.Case:
    """A convolution that the strategy takes, and a tail that keeps magnitudes.

    precision: of float32; or f64, the dtype.
    """
    channels = {"wgmma_gathered": 3, "wgmma_packed": 3, "wgmma_ring": 16}.get(strategy, 24)
    dtype, precision = ("f64", "fp32") if precision == "f64" else ("f32", precision)
    template = gpu_cases.Template(
        dtype, precision, channels, 16, 2, (3, 3), (1, 1), (0, 0), (1, 1),
        tail=(gpu_cases.Step("unary", "neg"),),
    )  # fmt: skip
    return gpu_cases.make_case(template, images, (12, 25))


def run(emulator: Emulator, case: gpu_cases.Case, strategy: str, inputs: list[Tensor]) -> Tensor:
    results = emulator.run(case, strategy, 0, inputs)
    if isinstance(results, str):
        pytest.skip(results)
    return results[0].double()


@pytest.mark.parametrize("precision", ["tf32", "fp32"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_magnitudes(strategy: str, precision: str, emulator: Emulator) -> None:
    """What is beyond the range of halves is made anew at a scale of its own."""
    case = plain(strategy, precision)
    generator = torch.Generator().manual_seed(2)
    for kind, scales in MAGNITUDES.items():
        x, weight = gpu_cases.values(case, torch.device("cpu"), generator)
        patches = torch.randint(len(scales), (2, 1, 3, 5), generator=generator)
        x *= torch.tensor(scales)[patches.repeat_interleave(4, 2).repeat_interleave(5, 3)]
        actual = run(emulator, case, strategy, [x, weight])
        worst = gpu_cases.excess(case, strategy, actual, x, weight)
        assert worst <= 1.0, f"{kind}: {worst:.3g} times what is allowed"


TWO_HALVES = {  # strategy, channels, what follows, numbers of plans, and what their sources have
    "ring": ("wgmma_ring", 16, 16, ("unary", "neg"), (0, 4), "ROW_BLOCKS = "),
    "ring, channels as rows": ("wgmma_ring", 16, 64, ("reduce", "amin"), (4, 13), "TILE_PIXELS = "),
    "ring, many spans": ("wgmma_ring", 40, 16, ("unary", "neg"), (0, 1), "SPANS = 9"),
    "ring, uneven spans": ("wgmma_ring", 32, 16, ("unary", "neg"), (0, 1), "SPANS = 5"),
    "streamed": ("wgmma_streamed", 40, 16, ("unary", "neg"), (0, 5), "TAP_BLOCKS = 2"),
}


@pytest.mark.parametrize("name", TWO_HALVES)
def test_two_halves(name: str, emulator: Emulator) -> None:
    """No product of halves is missing: in class fp32 results err like float32's."""
    strategy, channels, features, step, picks, has = TWO_HALVES[name]
    template = gpu_cases.Template(
        "f32", "fp32", channels, features, 2, (3, 3), (1, 1), (1, 1), (1, 1),
        tail=(gpu_cases.Step(*step),),
    )  # fmt: skip
    case = gpu_cases.make_case(template, 1, (7, 25))
    inputs = gpu_cases.values(case, torch.device("cpu"), torch.Generator().manual_seed(5))
    wanted = gpu_cases.truth(case, inputs)[0]
    for pick in picks:
        results = emulator.run(case, strategy, pick, inputs)
        assert not isinstance(results, str), results
        assert any(has in source.read_text() for source in emulator.directory.glob("?.cu"))
        error = float((results[0].double() - wanted).norm() / wanted.norm())
        assert error < 3e-7, f"plan {pick} errs {error:.2g}"


@pytest.mark.parametrize(
    ("strategy", "precision"),
    [*itertools.product(STRATEGIES, ["tf32", "fp32"]), ("mma", "f64")],
)
def test_nan_and_infinity(strategy: str, precision: str, emulator: Emulator) -> None:
    """They go where they go in float64, and nowhere else."""
    case = plain(strategy, precision)
    x, weight = gpu_cases.values(case, torch.device("cpu"), torch.Generator().manual_seed(3))
    x[0, 0, 3, 4] = math.nan
    x[0, 1, 7, 15] = math.inf
    x[1, 0, 5, 5] = -math.inf
    x[1, 0, 6, 6] = math.inf
    actual = run(emulator, case, strategy, [x, weight])
    wanted = -gpu_cases.convolved(case.template, x.double(), weight.double(), None)
    assert torch.equal(actual.isnan(), wanted.isnan())
    infinite = wanted.isinf()
    assert torch.equal(actual.isinf(), infinite)
    assert torch.equal(actual[infinite], wanted[infinite])


@pytest.mark.parametrize("precision", ["tf32", "fp32"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_segments_side_by_side(strategy: str, precision: str, emulator: Emulator) -> None:
    """No image's magnitude, NaN or infinity, nor a channel's, spoils another's."""
    case = plain(strategy, precision, 5)
    x, weight = gpu_cases.values(case, torch.device("cpu"), torch.Generator().manual_seed(4))
    x *= torch.tensor([1e30, 1e-30, 1.0, 1e30, 1e-30]).reshape(-1, 1, 1, 1)
    weight *= torch.tensor([1.0, 1e-30, 1e30, 1.0]).repeat(4).reshape(-1, 1, 1, 1)
    x[3, 0, 3, 4] = math.nan
    x[4, 1, 7, 15] = math.inf
    weight[15, 1, 1, 1] = math.inf
    weight[12, 2, 0, 1] = math.nan
    actual = run(emulator, case, strategy, [x, weight])
    worst = gpu_cases.excess(case, strategy, actual, x, weight)
    assert worst <= 1.0, f"{worst:.3g} times what is allowed"
    wanted = -gpu_cases.convolved(case.template, x.double(), weight.double(), None)
    lost = ~wanted.isfinite()
    assert lost.any() and not actual[lost].isfinite().any()


# ---- float64 on the tensor cores ----------------------------------------------------------------

SCALES = [1.0, 1e150, 1e-150, 1e-310]  # the last: results are subnormal


@pytest.mark.parametrize(
    ("dtype", "precision", "channels", "rank"),
    [("f32", "tf32", 3, 3), ("f32", "fp32", 3, 3), ("bf16", "tf32", 3, 3), ("f32", "fp32", 8, 2)],
)
def test_packed_sums(
    dtype: str, precision: str, channels: int, rank: int, emulator: Emulator
) -> None:
    """Slices side by side under a walk along them; more k than one sum of class fp32 takes."""
    ending = (gpu_cases.Step("softmax", "softmax", axis=1),)
    walk = (gpu_cases.Step("reduce", "amin", axis=2),) if rank == 3 else ()
    template = gpu_cases.Template(
        dtype, precision, channels, 24, rank, (3,) * rank, (1,) * rank, (0,) * rank, (1,) * rank,
        bias=True, tail=walk + ending,
    )  # fmt: skip
    case = gpu_cases.make_case(template, 2, (6, 8, 12)[3 - rank :])
    inputs = gpu_cases.values(case, torch.device("cpu"), torch.Generator().manual_seed(5))
    results = emulator.run(case, "wgmma_packed", 0, inputs)
    assert not isinstance(results, str), results
    wrong = gpu_cases.problem(case, results, inputs)
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("precision", "kernel", "padding", "image"),
    [
        ("fp32", (3, 3, 3), 0, (6, 8, 12)),
        ("tf32", (3, 3, 3), 1, (6, 8, 13)),
        ("tf32_even", (2, 4, 5), 2, (4, 5, 44)),
        ("fp32", (3, 1, 7), 1, (5, 6, 40)),
    ],
    ids=str,
)
def test_gathered_words(
    precision: str,
    kernel: tuple[int, ...],
    padding: int,
    image: tuple[int, ...],
    emulator: Emulator,
) -> None:
    """What shares a word or stands where there is no tap leaves results as they are."""
    template = gpu_cases.Template(
        "f32", precision, 3, 24, 3, kernel, (1, 1, 1), (padding,) * 3, (1, 1, 1), bias=True,
        tail=(gpu_cases.Step("reduce", "amin", axis=2),),
    )  # fmt: skip
    case = gpu_cases.make_case(template, 5, image)
    inputs = gpu_cases.values(case, torch.device("cpu"), torch.Generator().manual_seed(5))
    x = inputs[0]
    x[0, 0, 3, 4, 4] = math.nan
    x[1, 1, 0, 0, 0] = math.inf
    x[2, 2, 1, 4, 11] = -math.inf
    x[3] *= 1e30
    results = emulator.run(case, "wgmma_gathered", 0, inputs)
    assert not isinstance(results, str), results
    wanted = gpu_cases.truth(case, inputs)[0]
    assert torch.equal(results[0].isnan(), wanted.isnan())
    assert torch.equal(results[0].isinf(), wanted.isinf())
    for image_wanted, result in zip(wanted, results[0].double(), strict=True):
        kept = image_wanted.isfinite()
        error = (result - image_wanted)[kept].norm() / image_wanted[kept].norm()
        assert not kept.any() or float(error) < 3e-7


@pytest.mark.parametrize("depth", [3, 4, 5, 8])
@pytest.mark.parametrize("largest", [1.0, 1e30])
def test_gathered_depths(depth: int, largest: float, emulator: Emulator) -> None:
    """A job's first and last slices, multiplied apart in fp32: with one depth, an odd number and
    an even number between; jobs in a row, and all of them made anew."""
    template = gpu_cases.Template(
        "f32", "fp32", 3, 24, 3, (3, 3, 3), (1, 1, 1), (0, 0, 0), (1, 1, 1), bias=True,
        tail=(gpu_cases.Step("reduce", "amax", axis=2),),
    )  # fmt: skip
    case = gpu_cases.make_case(template, 4, (depth, 15, 14))
    inputs = gpu_cases.values(case, torch.device("cpu"), torch.Generator().manual_seed(6))
    inputs[0] *= largest
    results = emulator.run(case, "wgmma_gathered", 0, inputs)
    assert not isinstance(results, str), results
    wanted = gpu_cases.truth(case, inputs)[0]
    error = (results[0].double() - wanted).norm() / wanted.norm()
    assert float(error) < 2e-7


@pytest.mark.parametrize("gpu", ["sm_80", "sm_90a"])
def test_doubles(gpu: str, emulator: Emulator) -> None:
    """Each product is fused and rounded once, in both shapes of the instruction, at every scale."""
    emulator.gpu = gpu
    template = gpu_cases.Template(
        "f64", "fp32", 13, 24, 2, (3, 2), (2, 1), (1, 0), (1, 2), bias=True,
        tail=(gpu_cases.Step("unary", "neg"),),
    )  # fmt: skip
    case = gpu_cases.make_case(template, 2, (9, 14))
    x, weight, bias = gpu_cases.values(case, torch.device("cpu"), torch.Generator().manual_seed(5))
    products = 13 * 3 * 2
    for scale in SCALES:
        inputs = [x * scale, weight, bias * scale]
        actual = run(emulator, case, "mma", inputs)
        wanted = -gpu_cases.convolved(template, *inputs)
        summed = gpu_cases.convolved(template, *(t.abs() for t in inputs))
        allowed = 2 * products * 2.0**-53 * summed + products * 5e-324
        assert bool(((actual - wanted).abs() <= allowed).all()), f"times {scale}"


@pytest.mark.parametrize("halves", gpu_cases.HALVES, ids=str)
def test_ring_takes_halves_as_they_are(halves: gpu_cases.Halves, emulator: Emulator) -> None:
    """No operand is rounded, subnormal ones neither; results are, once; NaN and infinity stay."""
    case = halves.case()
    inputs = halves.values(torch.device("cpu"), torch.Generator().manual_seed(5))
    results = emulator.run(case, "wgmma_ring", 0, inputs)
    assert not isinstance(results, str), results
    wrong = halves.problem(results, inputs)
    assert not wrong, wrong


@pytest.mark.parametrize("dtype", ["f32", "f16"])
@pytest.mark.parametrize("style", ["contiguous", "last"])
def test_ring_takes_groups(style: str, dtype: str, emulator: Emulator) -> None:
    """Each group of output channels meets its own input channels, however these lie."""
    template = gpu_cases.Template(
        dtype, "tf32", 32, 16, 2, (3, 3), (1, 1), (1, 1), (1, 1), groups=2,
        tail=(gpu_cases.Step("unary", "neg"),),
    )  # fmt: skip
    case = gpu_cases.make_case(template, 2, (5, 12))
    if style == "last":
        element, sizes, _ = case.inputs[0]
        case.inputs[0] = (element, sizes, (sizes[1] * 60, 1, sizes[1] * 12, sizes[1]))
    inputs = gpu_cases.values(case, torch.device("cpu"), torch.Generator().manual_seed(5))
    results = emulator.run(case, "wgmma_ring", 0, inputs)
    assert not isinstance(results, str), results
    wrong = gpu_cases.problem(case, results, inputs)
    assert not wrong, wrong


@pytest.mark.parametrize(("width", "features"), [(9, 72), (42, 72), (43, 64), (128, 24), (262, 24)])
def test_lines(width: int, features: int, emulator: Emulator) -> None:
    """Rows that begin anywhere in a sector of memory, and go on from tile to tile or do not."""
    template = gpu_cases.Template(
        "f32", "tf32", 8, features, 2, (3, 3), (1, 1), (1, 1), (1, 1), bias=True,
        tail=(gpu_cases.Step("unary", "neg"),),
    )  # fmt: skip
    case = gpu_cases.make_case(template, 2, (5, width))
    inputs = gpu_cases.values(case, torch.device("cpu"), torch.Generator().manual_seed(5))
    shape = (2, features, 5, width)
    output = ("f32", shape, gpu_cases.contiguous(shape))
    ran = 0
    for pick in range(64):
        try:
            emulator.plan(case, "wgmma_ring", pick, [output])
        except LookupError:
            break
        if "close_window" not in (emulator.directory / "0.cu").read_text():
            continue
        results = emulator.run(case, "wgmma_ring", pick, inputs)
        assert not isinstance(results, str), results
        wrong = gpu_cases.problem(case, results, inputs)
        assert not wrong, f"plan {pick}: {wrong}"
        if ran == 0:
            check_special_lines(case, inputs, pick, emulator)
        ran += 1
        if ran == 2:
            break
    assert ran


def check_special_lines(
    case: gpu_cases.Case, inputs: list[torch.Tensor], pick: int, emulator: Emulator
) -> None:
    """NaN, infinities and what halves of the common scale do not hold stay where they belong."""
    x, *others = inputs
    x = x.clone()
    x[0, 0, 3, 4] = math.nan
    x[0, 1, 0, 0] = -math.inf
    x[1, 2, 1, -1] = math.inf
    x[1, :, 4] *= 1e30
    results = emulator.run(case, "wgmma_ring", pick, [x, *others])
    assert not isinstance(results, str), results
    wanted, made = gpu_cases.truth(case, [x, *others])[0], results[0].double()
    assert torch.equal(made.isnan(), wanted.isnan())
    assert torch.equal(made.isinf(), wanted.isinf())
    for image_wanted, result in zip(wanted, made, strict=True):
        kept = image_wanted.isfinite()
        error = (result - image_wanted)[kept].norm() / image_wanted[kept].norm()
        assert float(error) < 1e-5


# Scale of activations, the least that a segment's largest may be without being made anew, and the
# part of the halves' unit that an activation loses: where rounding away from zero is an addition
# before a cut, that is nearly all of it. And what docs/numerics.md grants of the largest.
UNIT = 2.0**-24  # of halves, where they are small
CUT, NEAREST, HALVED = (2.0**6, 2.0**-6, 0.95), (2.0**6, 2.0**-6, 0.49), (2.0**8, 2.0**3, 0.49)
LOST = {
    ("tf32", "wgmma_ring"): CUT,
    ("tf32", "wgmma_streamed"): NEAREST,
    ("tf32", "wgmma_packed"): CUT,
    ("tf32_even", "wgmma_ring"): NEAREST,
    ("tf32_even", "wgmma_streamed"): NEAREST,
    ("tf32_even", "wgmma_packed"): NEAREST,
    ("fp32", "wgmma_ring"): HALVED,
    ("fp32", "wgmma_streamed"): HALVED,
}
GRANTED = {"tf32": 2.0**-18, "tf32_even": 2.0**-18, "fp32": 2.0**-28}


@pytest.mark.parametrize(("precision", "strategy"), LOST)
def test_bound_is_reached(precision: str, strategy: str, emulator: Emulator) -> None:
    """Activations as far from their halves as can be err nearly as much as is granted, not more."""
    scale, least, part = LOST[precision, strategy]
    case = plain(strategy, precision, images=1)
    x, weight = gpu_cases.values(case, torch.device("cpu"), torch.Generator().manual_seed(1))
    x.fill_((40 + part) * UNIT / scale)
    x[:, 0, ::4, ::8] = least / scale  # in every segment, but not under every pixel
    weight.fill_(1.0)
    actual = run(emulator, case, strategy, [x, weight])
    rounded = gpu_cases.rounded(x, precision).double()
    wanted = -gpu_cases.convolved(case.template, rounded, weight.double(), None)
    allowed = GRANTED[precision] * least / scale * weight[0].numel()
    alone = wanted.abs() < least / scale  # no large activation under the pixel
    error = float((actual - wanted)[alone].abs().max())
    assert 0.4 * allowed < error <= allowed, f"{error / allowed:.3g} of what is granted"


@pytest.mark.parametrize("strategy", ["wgmma_packed", "wgmma_gathered"])
def test_depths_beyond_the_last(strategy: str, emulator: Emulator) -> None:
    """A box that reaches beyond the last depth does not see the next image."""
    template = gpu_cases.Template(
        "f32", "tf32", 1, 3, 3, (3, 3, 3), (1, 1, 1), (0, 0, 0), (1, 1, 1),
        tail=(gpu_cases.Step("unary", "neg"),),
    )  # fmt: skip
    case = gpu_cases.make_case(template, 2, (33, 5, 10))
    x, weight = gpu_cases.values(case, torch.device("cpu"), torch.Generator().manual_seed(3))
    x[1] *= 1e30
    for pick in range(0, 16, 3):  # boxes of some are shorter than the depth, which is prime
        results = emulator.run(case, strategy, pick, [x, weight])
        if isinstance(results, str):
            break
        worst = gpu_cases.excess(case, strategy, results[0].double(), x, weight)
        assert worst <= 1.0, f"plan {pick}: {worst:.3g} times what is allowed"
    assert pick > 3
