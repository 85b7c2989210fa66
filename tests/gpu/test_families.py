"""Every family of kernels on random regions, against float64."""

from __future__ import annotations

import math
import os
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

import gpu_cases
from gpu_cases import Case, Tally
from gpu_launch import MARGIN, launch, outputs_of
from segue import _core, cuda

WANTED = 200
TEMPLATES_MAX = 160
VARIANTS = 9

families = gpu_cases.marked_families()


def check(case: Case, program: _core.Program, generator: torch.Generator) -> str:
    """What is wrong with one case; "" when nothing is."""
    device = torch.device("cuda")
    inputs = gpu_cases.values(case, device, generator)
    before = [x.clone() for x in inputs]
    memories, outputs = outputs_of(program, device)
    launch(program, inputs, outputs)
    for memory in memories:
        if not bool(memory[:MARGIN].isnan().all() and memory[-MARGIN:].isnan().all()):
            return "written outside of the result"
    for x, y in zip(inputs, before, strict=True):
        if not torch.equal(x, y):
            return "an input has changed"
    return gpu_cases.problem(case, outputs, inputs)


def survey(family: str) -> Tally:
    """Draws cases until the family has taken enough of them, and checks each."""
    tally = Tally()
    cuda.use_nvrtc()
    taken: list[tuple[str, Case, _core.Program, Future[None]]] = []
    with ThreadPoolExecutor(os.cpu_count() or 4) as pool:
        for number in range(TEMPLATES_MAX):
            if tally.taken >= WANTED:
                break
            for variant in range(VARIANTS):
                case = gpu_cases.draw_case(family, number, variant)
                try:
                    program = case.compile(family)
                except _core.NotApplicable as reason:
                    tally.refuse(str(reason))
                    continue
                tally.taken += 0 not in case.inputs[0][1]  # what is empty launches nothing
                name = f"{family} {number} {variant}"
                taken.append((name, case, program, pool.submit(program.build, 0)))
        generator = torch.Generator("cuda").manual_seed(1)
        for name, case, program, built in taken:
            try:
                built.result()
                wrong = check(case, program, generator)
            except (OSError, ValueError, MemoryError) as error:
                wrong = f"raised {error}"
            if wrong:
                tally.wrong.append(f"{name}: {wrong}\n{case.inputs}\n{case.text}")
    return tally


@pytest.mark.parametrize("family", families)
def test_random_regions(family: str, record_property: pytest.RecordProperty) -> None:  # type: ignore[name-defined]
    tally = survey(family)
    record_property("taken", tally.taken)
    print(f"{family}: {tally.taken} cases taken, {sum(tally.refused.values())} refused")
    assert not tally.wrong, f"{len(tally.wrong)} wrong\n" + "\n".join(tally.wrong[:5])
    reasons = sorted(tally.refused.items(), key=lambda item: -item[1])[:8]
    assert tally.taken >= WANTED, f"took {tally.taken} cases only; refused: {reasons}"


# ---- magnitudes --------------------------------------------------------------------------------

MAGNITUDES = {
    "huge": [1e30],
    "tiny": [1e-30],
    "subnormal": [1e-40],
    "huge and tiny": [1e30, 1e-30],
    "over the half's range": [70000.0, 3e4],
    "all": [1e30, 1.0, 1e-30, 0.0, 1e5, 1e-6],
}


def plain(family: str, precision: str) -> gpu_cases.Template:
    """A convolution that the family takes, and a tail that keeps magnitudes."""
    channels = {"wgmma_gathered": 3, "wgmma_packed": 3, "wgmma_ring": 16}.get(family, 64)
    return gpu_cases.Template(
        "f32", precision, channels, 32, 2, (3, 3), (1, 1), (0, 0), (1, 1),
        tail=(gpu_cases.Step("unary", "neg"),),
    )  # fmt: skip


def compiled(case: Case, family: str) -> _core.Program:
    cuda.use_nvrtc()
    try:
        program = case.compile(family)
    except _core.NotApplicable as reason:
        pytest.skip(str(reason))
    program.build(0)
    return program


def run(program: _core.Program, inputs: list[Tensor]) -> Tensor:
    _, outputs = outputs_of(program, torch.device("cuda"))
    launch(program, inputs, outputs)
    return outputs[0]


@pytest.mark.parametrize("precision", ["tf32", "tf32_even", "fp32"])
@pytest.mark.parametrize("kind", MAGNITUDES)
@pytest.mark.parametrize("family", families[:-1])
def test_magnitudes(family: str, kind: str, precision: str) -> None:
    """Side by side in one tensor; the error is bounded as docs/numerics.md says."""
    template = plain(family, precision)
    case = gpu_cases.make_case(template, 3, (20, 45))
    program = compiled(case, family)
    generator = torch.Generator("cuda").manual_seed(2)
    x, weight = gpu_cases.values(case, torch.device("cuda"), generator)
    scales = torch.tensor(MAGNITUDES[kind], device="cuda")
    # In patches, so that results of each magnitude are to be seen.
    patches = torch.randint(len(scales), (3, 1, 5, 9), generator=generator, device="cuda")
    x *= scales[patches.repeat_interleave(4, 2).repeat_interleave(5, 3)]
    actual = run(program, [x, weight])
    worst = gpu_cases.excess(case, family, actual.double(), x, weight)
    assert worst <= 1.0, f"{worst:.3g} times what is allowed"


@pytest.mark.parametrize("precision", ["tf32", "tf32_even", "fp32"])
@pytest.mark.parametrize("family", families[:-1])
def test_nan_and_infinity(family: str, precision: str) -> None:
    """They go where they go in float64, and nowhere else."""
    template = plain(family, precision)
    case = gpu_cases.make_case(template, 2, (17, 30))
    program = compiled(case, family)
    generator = torch.Generator("cuda").manual_seed(3)
    x, weight = gpu_cases.values(case, torch.device("cuda"), generator)
    x[0, 0, 3, 4] = math.nan
    x[0, 1, 10, 20] = math.inf
    x[1, 0, 5, 5] = -math.inf
    x[1, 0, 6, 6] = math.inf
    actual = run(program, [x, weight])
    wanted = -gpu_cases.convolved(template, x.double(), weight.double(), None)
    assert torch.equal(actual.isnan(), wanted.isnan())
    infinite = wanted.isinf()
    assert torch.equal(actual.isinf(), infinite)
    assert torch.equal(actual[infinite].double(), wanted[infinite])
    finite = wanted.isfinite()
    rounded = [gpu_cases.rounded(t, precision).nan_to_num(0, 0, 0).double() for t in (x, weight)]
    wanted = -gpu_cases.convolved(template, rounded[0], rounded[1], None)
    assert float((actual.double() - wanted)[finite].abs().max()) < 3e-5


@pytest.mark.sm(90)
@pytest.mark.parametrize("halves", gpu_cases.HALVES, ids=str)
def test_ring_takes_halves_as_they_are(halves: gpu_cases.Halves) -> None:
    """No operand is rounded, subnormal ones neither; results are, once; NaN and infinity stay."""
    program = compiled(halves.case(), "wgmma_ring")
    inputs = halves.values(torch.device("cuda"), torch.Generator("cuda").manual_seed(5))
    _, outputs = outputs_of(program, torch.device("cuda"))
    launch(program, inputs, outputs)
    wrong = halves.problem(outputs, inputs)
    assert not wrong, wrong


# ---- float64 on the tensor cores ---------------------------------------------------------------


@pytest.mark.sm(80)
@pytest.mark.parametrize("scale", [1.0, 1e150, 1e-150, 1e-310])
def test_doubles(scale: float) -> None:
    """Products are fused and rounded once, also to subnormals; NaN and infinities go through."""
    template = gpu_cases.Template(
        "f64", "fp32", 13, 72, 2, (3, 2), (2, 1), (1, 0), (1, 2), bias=True,
        tail=(gpu_cases.Step("unary", "neg"),),
    )  # fmt: skip
    case = gpu_cases.make_case(template, 3, (19, 34))
    program = compiled(case, "mma")
    generator = torch.Generator("cuda").manual_seed(4)
    x, weight, bias = gpu_cases.values(case, torch.device("cuda"), generator)
    inputs = [x * scale, weight, bias * scale]
    inputs[0][2, 1, 3, 4], inputs[0][2, 2, 10, 20], inputs[0][2, 0, 6, 6] = (
        math.nan,
        math.inf,
        -math.inf,
    )
    actual = run(program, inputs)
    wanted = -gpu_cases.convolved(template, *(t.cpu() for t in inputs)).cuda()
    assert torch.equal(actual.isnan(), wanted.isnan())
    assert torch.equal(actual[wanted.isinf()], wanted[wanted.isinf()])
    summed = gpu_cases.convolved(template, *(t.abs() for t in inputs))
    products = 13 * 3 * 2
    allowed = 2 * products * 2.0**-53 * summed + products * 5e-324
    finite = wanted.isfinite()
    assert bool(((actual - wanted).abs() <= allowed)[finite].all())
