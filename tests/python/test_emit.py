"""Emitted units: host functions against lowering, on a stub of the runtime; kernels by NVRTC."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import emitted
import nvrtc
import pytest
from emitted import (
    Launch,
    Lowered,
    Tensors,
    channels_last,
    general,
    lowered,
    relaid,
    tensors,
)

from conftest import build_dirs, program
from segue import _core

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A region whose text follows from sizes; `at` is what it is planned for."""

    text: Callable[[Sizes], str]
    at: Sizes
    others: tuple[Sizes, ...]
    precision: str = "tf32"
    layout: Callable[[emitted.Layout], emitted.Layout] | None = None
    strategy: str | None = None
    # Sizes among `others` at which the first path must be taken.
    first: tuple[Sizes, ...] = field(default=())


def conv(channels: str, filter_: str, attributes: str, tail: str, dtype: str = "f32"):
    """Text of a convolution of some channels with a filter, and what follows."""

    def text(sizes: Sizes) -> str:
        image = ", ".join(map(str, (sizes[0], int(channels), *sizes[1:])))
        weight = filter_.split(",")
        return (
            f"graph g {{\n  %x = input : {dtype}[{image}]\n"
            f"  %weight = input : {dtype}[{filter_}]\n  %bias = input : {dtype}[{weight[0]}]\n"
            f"  %c = convolution %x, %weight, %bias{attributes}\n{tail}}}\n"
        )

    return text


MIN_TANH = "  %m = amin %c {dim=[1], keepdim=true}\n  %t = tanh %m\n  %y = tanh %t\n  output %y\n"
CASES = {
    "min_tanh_tanh": Case(
        conv("16", "64, 16, 3, 3", "", MIN_TANH),
        (128, 256, 256),
        ((1, 256, 256), (3, 64, 128), (2, 31, 30), (7, 20, 400), (0, 256, 256)),
        first=((1, 256, 256), (3, 64, 128)),
    ),
    "scale_min": Case(
        conv(
            "64", "128, 64, 3, 3", "",
            "  %s = mul %c, 2.0\n  %y = amin %s {dim=[1], keepdim=true}\n  output %y\n",
        ),
        (64, 256, 256),
        ((1, 256, 256), (5, 60, 64), (2, 17, 19)),
        first=((1, 256, 256), (5, 60, 64)),
    ),
    "min_add_mul": Case(
        conv(
            "64", "128, 64, 3, 3", "",
            "  %k = input : f32[128, 1, 1]\n  %m = clamp %c {max=0.5}\n  %a = add %m, %k\n"
            "  %y = mul %a, 2.0\n  output %y\n",
        ),
        (128, 128, 128),
        ((1, 128, 128), (2, 33, 64), (2, 35, 41)),
        first=((1, 128, 128),),
    ),
    "min_softmax_3d": Case(
        conv(
            "3", "24, 3, 3, 3, 3", "",
            "  %m = amin %c {dim=[2]}\n  %y = softmax %m {dim=1}\n  output %y\n",
        ),
        (128, 24, 32, 32),
        ((1, 24, 32, 32), (3, 9, 20, 24), (2, 8, 9, 11)),
        first=((1, 24, 32, 32), (3, 9, 20, 24)),
    ),
    "strided_groups": Case(
        conv("32", "64, 16, 3, 3", " {stride=[2, 2], padding=[1, 1], groups=2}",
             "  %y = gelu %c\n  output %y\n"),
        (8, 64, 64),
        ((1, 64, 64), (2, 30, 32), (3, 15, 17)),
        strategy="mma",
        first=((1, 64, 64),),
    ),
    "two_outputs_f16": Case(
        conv("32", "64, 32, 1, 1", "",
             "  %g = silu %c\n  %l = logsumexp %g {dim=[1]}\n  %y = mul %g, 3.0\n"
             "  output %l\n  output %y\n", "f16"),
        (4, 56, 56),
        ((1, 56, 56), (2, 8, 16), (2, 7, 9)),
        first=((1, 56, 56),),
    ),
    "ring_f16": Case(
        conv("64", "64, 64, 3, 3", "", "  %y = relu %c\n  output %y\n", "f16"),
        (8, 58, 58),
        ((1, 58, 58), (3, 20, 66), (2, 19, 31)),
        strategy="wgmma_ring",
        first=((1, 58, 58),),
    ),
    "ring_bf16_last": Case(
        conv("64", "64, 64, 3, 3", " {padding=[1, 1]}", "  %y = relu %c\n  output %y\n", "bf16"),
        (8, 56, 56),
        ((1, 56, 56), (3, 20, 22)),
        layout=channels_last,
        strategy="wgmma_ring",
        first=((1, 56, 56),),
    ),
    "channels_last": Case(
        conv("32", "64, 32, 3, 3", " {padding=[1, 1]}", "  %y = relu %c\n  output %y\n"),
        (8, 56, 56),
        ((1, 56, 56), (3, 20, 22)),
        layout=channels_last,
        strategy="mma",
    ),
    "streamed": Case(
        conv("256", "256, 256, 3, 3", " {padding=[1, 1]}", "  %y = relu %c\n  output %y\n"),
        (16, 28, 28),
        ((1, 28, 28), (3, 56, 28), (2, 9, 11), (2, 9, 64)),
        first=((1, 28, 28), (3, 56, 28)),
    ),
    "streamed_fp32_flat": Case(
        conv("128", "128, 128, 1, 1", "", "  %y = relu %c\n  output %y\n"),
        (16, 28, 28),
        ((1, 28, 28), (2, 14, 28), (2, 9, 11)),
        precision="fp32",
        strategy="wgmma_streamed",
        first=((1, 28, 28),),
    ),
    "direct_fp32": Case(
        conv("3", "16, 3, 3, 3", "", "  %y = hardtanh %c\n  output %y\n"),
        (4, 62, 64),
        ((1, 62, 64), (2, 18, 34), (1, 9, 11)),
        precision="fp32",
        strategy="direct",
        first=((1, 62, 64),),
    ),
    "depthwise": Case(
        conv("48", "48, 1, 3, 3", " {padding=[1, 1], groups=48}",
             "  %r = input : f32[1, 48, 1, 1]\n  %y = mul %c, %r\n  output %y\n"),
        (4, 56, 56),
        ((1, 56, 56), (2, 28, 20), (2, 7, 5)),
        strategy="direct",
        first=((1, 56, 56),),
    ),
    "pointwise": Case(
        lambda s: f"graph g {{\n  %x = input : f32[{s[0]}, {s[1]}, {s[2]}]\n"
        f"  %k = input : f32[{s[0]}, {s[1]}, {s[2]}]\n  %a = add %x, %k\n  %y = tanh %a\n"
        "  output %y\n}\n",
        (8, 64, 512),
        ((1, 64, 512), (3, 5, 64), (2, 3, 7)),
        first=((1, 64, 512), (3, 5, 64)),
    ),
    "softmax_rows": Case(
        lambda s: f"graph g {{\n  %x = input : f32[{s[0]}, 96, {s[1]}, {s[2]}]\n"
        "  %y = softmax %x {dim=1}\n  output %y\n}\n",
        (8, 32, 32),
        ((1, 32, 32), (3, 16, 8), (2, 5, 7)),
        first=((1, 32, 32), (3, 16, 8)),
    ),
    "walk_rows": Case(
        lambda s: f"graph g {{\n  %x = input : f32[{s[0]}, {s[1]}, {s[2]}]\n"
        "  %y = amax %x {dim=[1, 2]}\n  %z = exp %y\n  output %z\n}\n",
        (64, 32, 512),
        ((2, 32, 512), (3, 7, 256), (2, 3, 9)),
        first=((2, 32, 512), (3, 7, 256)),
    ),
}  # fmt: skip
CASES["pooled"] = Case(
    conv("16", "32, 16, 3, 3", "",
         "  %g = gelu %c\n  %m = mean %g {dim=[2, 3]}\n  %y = log_softmax %m {dim=1}\n"
         "  output %y\n"),
    (8, 34, 34),
    ((2, 18, 34), (3, 13, 11)),
    first=((2, 18, 34),),
)  # fmt: skip
MODELS = ("min_tanh_tanh", "scale_min", "min_add_mul", "min_softmax_3d")


def emit(case: Case, name: str, part: str = "unit") -> str:
    """A part of a case's text."""
    at = tensors(case.text(case.at))
    if case.layout:
        at = relaid(at, case.layout)
    graph = _core.Graph(case.text(case.at))
    return graph.emit(
        at.inputs,
        name,
        part,
        at.outputs,
        gpu="sm_90a",
        precision=case.precision,
        strategy=case.strategy,
    )


def variations(case: Case) -> list[tuple[Sizes, Tensors]]:
    """Other sizes, and misaligned."""
    how = case.layout or emitted.contiguous
    found = [(n, relaid(tensors(case.text(n)), how)) for n in (case.at, *case.others)]
    return [*found, (found[1][0], dataclasses.replace(found[1][1], offset=4))]


@pytest.mark.parametrize("name", CASES)
def test_hosts_agree_with_lowering(name: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    case = CASES[name]
    unit = emitted.Unit(emit(case, "kernel"), "kernel", tmp_path, emit(case, "kernel", "source"))
    launches = program(build_dirs(pytestconfig)[0], "segue_launches")

    def expected(sizes: Sizes, of: Tensors, first: bool) -> Lowered | None:
        plan, alignment = unit.plan(first), 16 if first and not of.offset else 4 if first else 1
        text = case.text(sizes)
        return lowered(launches, text, of, plan, case.precision, alignment, tmp_path / "l")

    at = tensors(case.text(case.at))
    planned = expected(case.at, relaid(at, case.layout) if case.layout else at, True)
    anyhow = expected(case.at, relaid(at, general), False)
    assert planned and anyhow
    taken = set()
    for sizes, of in variations(case):
        wrong, made = unit.call(of)
        assert not wrong
        if 0 in sizes:
            assert not made
            continue
        if unit.took_first:
            wanted = expected(sizes, of, True)
            assert wanted and alike(made, wanted.launches, sizes), f"{sizes}, {of}"
            assert 1 in sizes or takes_for_granted(planned, wanted), f"{sizes}, {of}"
            taken.add((sizes, of))
            continue
        wanted = expected(sizes, relaid(of, general), False)
        assert wanted
        assert 1 in sizes or wanted.sources == anyhow.sources
        assert alike(without_strides(made, wanted, of), wanted.launches, sizes), f"{sizes}, {of}"
    for sizes in (case.at, *case.first):
        of = tensors(case.text(sizes))
        of = relaid(of, case.layout) if case.layout else of
        assert (sizes, of) in taken, f"{sizes} does not take the first path"


def takes_for_granted(planned: Lowered, wanted: Lowered) -> bool:
    """Whether a source is sound where another would be written: it is that, or assumes less."""
    pairs = zip(planned.sources, wanted.sources, planned.assumed, wanted.assumed, strict=True)
    return all(p == w or (pa != wa and pa <= weaker(wa)) for p, w, pa, wa in pairs)


def weaker(assumed: frozenset[str]) -> frozenset[str]:
    """Assumptions, and the same of vectors of half the length."""
    halves = {a.replace(", 16)", ", 8)").replace("% 4 ", "% 2 ") for a in assumed}
    return assumed | halves


def without_strides(made: list[Launch], wanted: Lowered, of: Tensors) -> list[Launch]:
    """Launches with the strides that the others have, each in its place."""
    strides = [dict(zip(general(t)[2], t[2], strict=True)) for t in of.all]
    result = []
    for m, w in zip(made, wanted.launches, strict=True):
        words, tensor = list(m.words[: len(w.words)]), None
        for i, word in enumerate(w.words):
            if word & ~0xFFFFFFFF == word - of.offset and word:
                tensor = strides[(word >> 32) - 1] if word < emitted.WORKSPACE else None
            elif tensor and word != words[i] and tensor.get(word) == words[i]:
                words[i] = word
        result.append(dataclasses.replace(m, words=tuple(words)))
    return result


def alike(made: list[Launch], wanted: list[Launch], sizes: Sizes) -> bool:
    """Whether launches are the same, but for strides along an axis of one element."""
    if len(made) != len(wanted):
        return False
    for m, w in zip(made, wanted, strict=True):
        if (m.entry, m.blocks, m.threads) != (w.entry, w.blocks, w.threads):
            return False
        pairs = list(zip(m.words, w.words, strict=False))
        if any(a != b and not (1 in sizes and b == 0) for a, b in pairs):
            return False
    return True


@pytest.mark.skipif(not nvrtc.available(), reason="there is no NVRTC")
@pytest.mark.parametrize("name", [*MODELS, "two_outputs_f16", "streamed"])
def test_kernels_compile(name: str) -> None:
    text = emitted.kernels_alone(emit(CASES[name], "kernel"))
    # For sm_80 the fast path is a stub, for sm_90a there are both.
    nvrtc.compile_source(text, "sm_80" if name == "streamed" else "sm_90a")


@pytest.mark.skipif(not nvrtc.available(), reason="there is no NVRTC")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
def test_doubles_compile(architecture: str) -> None:
    """Larger pieces than sm_80 can multiply are left out there."""
    body = conv("32", "64, 32, 3, 3", "", "  %y = relu %c\n  output %y\n", "f64")
    case = Case(body, (8, 32, 32), (), strategy="mma")
    nvrtc.compile_source(emitted.kernels_alone(emit(case, "kernel")), architecture)


@pytest.mark.skipif(not shutil.which("nvcc"), reason="there is no nvcc")
def test_units_share_a_file(tmp_path: Path) -> None:
    source = tmp_path / "regions.cu"
    units = [emit(CASES[name], name) for name in ("min_tanh_tanh", "softmax_rows")]
    source.write_text("\n".join(units), encoding="utf-8")
    command = ["nvcc", "-std=c++17", "-diag-suppress=177", "-c", "-o", str(tmp_path / "unit.o")]
    command += [str(source), *(f"-gencode=arch=compute_{a},code=sm_{a}" for a in ("80", "90a"))]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert "warning" not in built.stderr, built.stderr


@pytest.mark.skipif(not shutil.which("nvcc"), reason="there is no nvcc")
@pytest.mark.skipif(not shutil.which("ninja"), reason="there is no ninja")
def test_parts_make_a_library(tmp_path: Path) -> None:
    case = CASES["strided_groups"]
    parts = {"region.cu": "source", "region.h": "header", "CMakeLists.txt": "cmake"}
    for name, part in parts.items():
        (tmp_path / name).write_text(emit(case, "region", part), encoding="utf-8")
    build = tmp_path / "build"
    configure = ["cmake", "-G", "Ninja", "-S", str(tmp_path), "-B", str(build)]
    for command in (
        [*configure, "-DCMAKE_CUDA_ARCHITECTURES=80-real"],
        ["cmake", "--build", str(build)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (build / "libregion.a").exists()


def test_sizes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    case = CASES["min_tanh_tanh"]
    unit = emitted.Unit(emit(case, "kernel"), "kernel", tmp_path)
    right = tensors(case.text((2, 20, 24)))

    def said(*sizes: int) -> str:
        inputs = (emitted.contiguous(("f32", sizes, ())), *right.inputs[1:])
        wrong, made = unit.call(dataclasses.replace(right, inputs=inputs))
        assert bool(wrong) != bool(made)
        return wrong

    assert said(2, 16, 2, 24).startswith("the image is smaller than the filter")
    assert said(1 << 30, 16, 20, 24).endswith("a size is 2^30 or more")
    assert said(2, 16, 20, 24) == ""


def test_tensors_with_gaps_are_refused() -> None:
    text = CASES["pointwise"].text((2, 3, 4))
    gaps = ("f32", (2, 3, 4), (16, 5, 1))
    with pytest.raises(_core.NotApplicable, match="elements of x do not lie side by side"):
        _core.Graph(text).emit((gaps, *tensors(text).inputs[1:]), "f", gpu="sm_90a")


def test_without_code_for_hopper_the_other_path_runs(tmp_path: Path) -> None:
    case = CASES["min_tanh_tanh"]
    unit = emitted.Unit(emit(case, "kernel"), "kernel", tmp_path)
    unit.allow_first(False)
    wrong, made = unit.call(tensors(case.text(case.at)))
    assert not wrong
    assert [m.entry for m in made] == ["segue_implicit_gemm"]


def test_what_cannot_be_written_down_is_said() -> None:
    graph = _core.Graph(CASES["pointwise"].text((2, 3, 4)))
    layouts = tensors(graph.text()).inputs
    with pytest.raises(_core.SegueError, match="no name for a function in C"):
        graph.emit(layouts, "2nd", gpu="sm_90a")
    with pytest.raises(_core.SegueError, match="unit, header, source and cmake"):
        graph.emit(layouts, "f", "makefile")
    with pytest.raises(_core.SegueError, match="1 layouts for 2 inputs"):
        graph.emit(layouts[:1], "f", gpu="sm_90a")
    two = _core.Graph(
        "graph g {\n  %x = input : f32[4, 8]\n  %s = softmax %x {dim=1}\n"
        "  %t = softmax %s {dim=0}\n  output %t\n}\n"
    )
    with pytest.raises(_core.NotApplicable, match="2 steps, not one region"):
        two.emit(tensors(two.text()).inputs, "f", gpu="sm_90a")
