"""Regions as C files: what sg_emit_c writes is built by the compilers there are and compared with
float64."""

import ctypes
import math
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

RANK_MAX = 8
HEADER, SOURCE = 1, 2  # sg_emit_part
DTYPES = {
    0: torch.bool, 1: torch.float16, 2: torch.bfloat16, 3: torch.float32, 4: torch.float64
}  # fmt: skip
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
FLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]

# What may be off in a result of float32 and float64, relative to the norm of the whole.
TOLERANCE = {torch.float32: 6e-7, torch.float64: 2e-15, torch.float16: 6e-4, torch.bfloat16: 5e-3}


class Layout(ctypes.Structure):
    """sg_layout."""

    _fields_ = [
        ("dtype", ctypes.c_int),
        ("rank", ctypes.c_int),
        ("size", ctypes.c_int64 * RANK_MAX),
        ("stride", ctypes.c_int64 * RANK_MAX),
    ]

    def shape(self) -> list[int]:
        return list(self.size[: self.rank])


class Library:
    """The few calls of segue.h that are needed."""

    def __init__(self, path: Path) -> None:
        self.calls = ctypes.CDLL(str(path))
        self.calls.sg_context_message.restype = ctypes.c_char_p
        self.context = ctypes.c_void_p()
        self.calls.sg_context_create(ctypes.byref(self.context))

    def call(self, name: str, *arguments: Any) -> None:
        if getattr(self.calls, name)(*arguments):
            raise ValueError(self.calls.sg_context_message(self.context).decode())

    def parse(self, text: str) -> ctypes.c_void_p:
        graph = ctypes.c_void_p()
        data = text.encode()
        size = ctypes.c_size_t(len(data))
        self.call("sg_graph_parse", self.context, data, size, ctypes.byref(graph))
        return graph

    def inputs(self, graph: ctypes.c_void_p, sizes: str) -> Any:
        layouts = (Layout * self.calls.sg_graph_input_count(graph))()
        self.call("sg_graph_layouts", graph, sizes.encode(), layouts)
        return layouts

    def outputs(self, graph: ctypes.c_void_p, inputs: Any) -> Any:
        layouts = (Layout * self.calls.sg_graph_output_count(graph))()
        self.call("sg_graph_infer", graph, inputs, len(inputs), layouts)
        return layouts

    def emit(self, text: str, sizes: str, name: str) -> tuple[str, str]:
        graph = self.parse(text)
        inputs = self.inputs(graph, sizes)
        texts = []
        for part in (SOURCE, HEADER):
            made = ctypes.c_void_p()
            self.call(
                "sg_emit_c", graph, inputs, len(inputs), name.encode(), part, ctypes.byref(made)
            )
            texts.append(ctypes.string_at(made.value or 0).decode())
            self.calls.sg_string_free(made)
        self.calls.sg_graph_destroy(graph)
        return texts[0], texts[1]

    def reference(self, text: str, sizes: str, given: list[torch.Tensor]) -> list[torch.Tensor]:
        graph = self.parse(text)
        inputs = self.inputs(graph, sizes)
        wide = [x.double().contiguous() for x in given]
        made = [torch.empty(y.shape(), dtype=torch.float64) for y in self.outputs(graph, inputs)]
        self.call("sg_reference_run", graph, inputs, len(inputs), pointers(wide), pointers(made))
        self.calls.sg_graph_destroy(graph)
        return made


def pointers(tensors: list[torch.Tensor]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*[x.data_ptr() for x in tensors])


@pytest.fixture(scope="module")
def library(build_dir: Path) -> Iterator[Library]:
    library = Library(build_dir / "libsegue.so")
    yield library
    library.calls.sg_context_destroy(library.context)


@dataclass
class Case:
    """A graph, the sizes that its file is written at, and sizes to run it at: symbols by name, and
    what the entry calls them, in order."""

    body: str
    at: str
    sizes: list[str]
    arguments: Callable[[dict[str, int]], list[int]]
    layout: Callable[[torch.Tensor], torch.Tensor] = lambda x: x
    draw: Callable[[list[int]], torch.Tensor] = torch.randn

    def text(self) -> str:
        return "graph g {\n" + "\n".join("  " + x.strip() for x in self.body.split(";")) + "\n}\n"


def image(*names: str) -> Callable[[dict[str, int]], list[int]]:
    return lambda sizes: [sizes[name] for name in names]


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """The same tensor with its second dimension innermost."""
    if x.dim() < 3:
        return x
    order = [0, *range(2, x.dim()), 1]
    back = [0, x.dim() - 1, *range(1, x.dim() - 1)]
    return x.permute(order).contiguous().permute(back)


def gaps(x: torch.Tensor) -> torch.Tensor:
    """The same tensor in a larger one, every other element unused."""
    if x.dim() == 0:
        return x
    larger = torch.zeros([2 * s + 1 for s in x.shape], dtype=x.dtype)
    view = larger[tuple(slice(0, 2 * s, 2) for s in x.shape)]
    view.copy_(x)
    return view


CONV2D = "%x = input : f32[N, 16, H, W]; %w = input : f32[64, 16, 3, 3]; %b = input : f32[64];"
USUAL = ["N=2,H=17,W=45", "N=1,H=3,W=3", "N=0,H=9,W=9", "N=3,H=8,W=70"]
NHW = image("N", "H", "W")


def draw_special(shape: list[int]) -> torch.Tensor:
    """Numbers among which there are all that need care."""
    x = torch.randn(shape) * 8
    flat = x.view(-1)
    special = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e30, -1e30, 1e-40, 88.0, -104.0]
    for i, value in enumerate(special):
        flat[i * 7 % max(flat.numel(), 1) : i * 7 % max(flat.numel(), 1) + 1] = value
    return x


POINTWISE = (
    "exp exp2 expm1 log log1p log2 log10 sqrt rsqrt erf tanh sigmoid relu relu6 leaky_relu elu "
    "selu celu gelu gelu_tanh silu mish softplus log_sigmoid hardtanh hardsigmoid hardswish "
    "hardshrink softshrink threshold floor ceil trunc round sign abs reciprocal square"
)
POINTWISE_NAMES = POINTWISE.split()


CASES = {
    "conv2d_min_tanh_tanh": Case(
        CONV2D + "%c = convolution %x, %w, %b; %m = amin %c {dim=[1], keepdim=true}; %t = tanh %m;"
        "%u = tanh %t; output %u",
        "N=4,H=32,W=32", USUAL, NHW,
    ),
    "conv2d_scale_min": Case(
        CONV2D + "%c = convolution %x, %w, %b; %s = mul %c, 2.0;"
        "%m = amin %s {dim=[1], keepdim=true}; output %m",
        "N=4,H=32,W=32", USUAL, NHW,
    ),
    "conv2d_min_add_mul": Case(
        CONV2D + "%k = input : f32[64, 1, 1]; %c = convolution %x, %w, %b; %m = minimum %c, 0.5;"
        "%s = add %m, %k; %t = mul %s, 2.0; output %t",
        "N=4,H=32,W=32", USUAL, NHW,
    ),
    "conv3d_min_softmax": Case(
        "%x = input : f32[N, 3, D, H, W]; %w = input : f32[24, 3, 3, 3, 3]; %b = input : f32[24];"
        "%c = convolution %x, %w, %b; %m = amin %c {dim=[2]}; %s = softmax %m {dim=1}; output %s",
        "N=2,D=8,H=12,W=12", ["N=2,D=6,H=9,W=37", "N=1,D=3,H=3,W=3", "N=0,D=5,H=5,W=5"],
        image("N", "D", "H", "W"),
    ),
    "conv1d_gaps": Case(
        "%x = input : f32[N, 5, W]; %w = input : f32[7, 5, 4]; %c = convolution %x, %w, none"
        "{stride=[2], padding=[3], dilation=[2]}; %g = gelu %c; output %g",
        "N=3,W=40", ["N=3,W=41", "N=1,W=1", "N=2,W=200"], image("N", "W"), gaps,
    ),
    "groups_channels_last": Case(
        "%x = input : f32[N, 12, H, W]; %w = input : f32[18, 4, 3, 2]; %b = input : f32[18];"
        "%c = convolution %x, %w, %b {stride=[2, 1], padding=[1, 1], groups=3}; %s = silu %c;"
        "output %s",
        "N=2,H=9,W=13", ["N=2,H=9,W=13", "N=1,H=1,W=1", "N=2,H=30,W=33"], NHW, channels_last,
    ),
    "depthwise_residual": Case(
        "%x = input : f32[N, 9, H, W]; %w = input : f32[9, 1, 3, 3];"
        "%c = convolution %x, %w, none {padding=[1, 1], groups=9}; %r = relu %c; %s = add %r, %x;"
        "output %s",
        "N=2,H=8,W=9", ["N=2,H=19,W=40", "N=1,H=1,W=1"], NHW,
    ),
    "global_mean_two_outputs": Case(
        "%x = input : f32[N, 6, H, W]; %w = input : f32[10, 6, 3, 3];"
        "%c = convolution %x, %w, none {padding=[2, 2], dilation=[2, 2]};"
        "%m = mean %c {dim=[2, 3]}; %s = log_softmax %m {dim=1}; output %s, %m",
        "N=2,H=16,W=16", ["N=3,H=7,W=91", "N=1,H=1,W=1", "N=2,H=16,W=16"], NHW,
    ),
    "walk_rows_prod_max": Case(
        "%x = input : f32[N, 4, H, W]; %w = input : f32[6, 4, 1, 1];"
        "%c = convolution %x, %w, none; %t = tanh %c; %p = amax %t {dim=[2]};"
        "%q = sum %t {dim=[2]}; %s = add %p, %q; output %s",
        "N=2,H=6,W=6", ["N=2,H=5,W=50", "N=1,H=1,W=1"], NHW,
    ),
    "f64_logsumexp": Case(
        "%x = input : f64[N, 5, H, W]; %w = input : f64[11, 5, 3, 3]; %b = input : f64[11];"
        "%c = convolution %x, %w, %b {padding=[1, 1]}; %m = mish %c;"
        "%s = logsumexp %m {dim=[1]}; output %s",
        "N=2,H=8,W=8", ["N=2,H=9,W=31", "N=1,H=1,W=1"], NHW,
        draw=lambda shape: torch.randn(shape, dtype=torch.float64),
    ),
    "halves": Case(
        "%x = input : f16[N, 8, H, W]; %w = input : f16[16, 8, 3, 3]; %k = input : bf16[16, 1, 1];"
        "%c = convolution %x, %w, none {padding=[1, 1]}; %s = sigmoid %c; %g = gt %s, 0.5;"
        "%y = where %g, %s, %c; %z = mul %y, %k; output %g, %z",
        "N=2,H=8,W=8", ["N=2,H=9,W=31"], NHW,
    ),
    "softmax_rows": Case(
        "%x = input : f32[N, H, 50]; %s = softmax %x {dim=2}; output %s",
        "N=3,H=4", ["N=3,H=4", "N=1,H=1", "N=0,H=4", "N=2,H=300"], image("N", "H"),
    ),
    "pointwise_five_axes": Case(
        "%x = input : f32[N, 3, D, H, W]; %y = input : f32[3, 1, H, W]; %a = mul %x, %y;"
        "%g = gelu %a; output %g",
        "N=2,D=4,H=5,W=6", ["N=2,D=3,H=5,W=300", "N=1,D=2,H=2,W=2"],
        image("N", "D", "H", "W"), gaps,
    ),
    "mean_of_images": Case(
        "%x = input : f32[N, 7, H, W]; %a = relu %x; %m = mean %a {dim=[2, 3], keepdim=true};"
        "%s = sigmoid %m; output %s",
        "N=2,H=5,W=6", ["N=3,H=11,W=601", "N=1,H=2,W=2"], NHW,
    ),
    "unbatched_flatten": Case(
        "%x = input : f32[4, H, W]; %w = input : f32[6, 4, 3, 3];"
        "%c = convolution %x, %w, none; %r = relu %c; %f = flatten %r {start_dim=1}; output %f",
        "H=8,W=9", ["H=8,W=9", "H=20,W=40"], image("H", "W"),
    ),
    "specials": Case(
        "%x = input : f32[N, 37]; %n = mul %x, -0.5; "
        + "".join(f"%y{i} = {name} %n; " for i, name in enumerate(POINTWISE_NAMES))
        + "output " + ", ".join(f"%y{i}" for i in range(len(POINTWISE_NAMES))),
        "N=4", ["N=4", "N=1", "N=29"], lambda sizes: [sizes["N"], 37], draw=draw_special,
    ),
    "special_reductions": Case(
        "%x = input : f32[N, 9, W]; %n = neg %x; %a = amax %n {dim=[1]}; %b = amin %n {dim=[1]};"
        "%c = softmax %n {dim=1}; %d = log_softmax %n {dim=1}; %e = logsumexp %n {dim=[1]};"
        "%f = minimum %n, 1.0; output %a, %b, %c, %d, %e, %f",
        "N=4,W=8", ["N=4,W=8", "N=3,W=77"], image("N", "W"), draw=draw_special,
    ),
}  # fmt: skip


def build(folder: Path, library: Library, text: str, sizes: str, compiler: str = "") -> Any:
    source, header = library.emit(text, sizes, "made")
    (folder / "made.c").write_text(source, encoding="utf-8")
    (folder / "made.h").write_text(header, encoding="utf-8")
    path = folder / f"made_{compiler or COMPILERS[0]}.so"
    command: list[str | Path] = [compiler or COMPILERS[0], *FLAGS, "made.c", "-o", path, "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    made = ctypes.CDLL(str(path))
    made.made_workspace.restype = ctypes.c_size_t
    made.made_error.restype = ctypes.c_char_p
    return made


def run_made(
    made: Any, sizes: list[int], inputs: list[torch.Tensor], outputs: list[torch.Tensor],
    contiguous: bool = False,
) -> int:  # fmt: skip
    """Calls the entry; strides are left out where contiguous."""
    arguments: list[Any] = [ctypes.c_int64(size) for size in sizes]
    for x in inputs + outputs:
        strides = (ctypes.c_int64 * max(x.dim(), 1))(*x.stride())
        arguments += [ctypes.c_void_p(x.data_ptr() or 64), None if contiguous else strides]
    workspace = ctypes.create_string_buffer(made.made_workspace())
    return int(made.made(*arguments, workspace))


def draw_inputs(case: Case, layouts: Any) -> list[torch.Tensor]:
    """Contiguous; those of convolutions so small that sums stay about one."""
    scale = 4 if len(layouts) > 1 else 1
    return [(case.draw(x.shape()) / scale).to(DTYPES[x.dtype]) for x in layouts]


def assert_close(got: torch.Tensor, wanted: torch.Tensor, what: str) -> None:
    if got.dtype == torch.bool:
        assert torch.equal(got.double(), wanted), what
        return
    held = wanted.to(got.dtype).double()
    value = got.double()
    assert torch.equal(value.isnan(), held.isnan()), f"{what}: NaN elsewhere"
    infinite = held.isinf()
    assert torch.equal(value[infinite], held[infinite]), f"{what}: infinities"
    finite = held.isfinite()
    assert bool(value[finite].isfinite().all()), f"{what}: not finite"
    zero = finite & (held == 0) & (value == 0)
    assert torch.equal(value[zero].signbit(), held[zero].signbit()), f"{what}: sign of zero"
    small = finite & (held.abs() < 1e6)
    error = (value - held)[small].norm() / max(held[small].norm().item(), 1e-30)
    assert float(error) <= TOLERANCE[got.dtype], f"{what}: relative error {float(error):.3g}"
    large = finite & ~small
    if bool(large.any()):
        ratio = (value[large] / held[large] - 1).abs().max()
        assert float(ratio) <= 4 * TOLERANCE[got.dtype], f"{what}: large ones"


def read_sizes(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in (pair.split("=") for pair in text.split(","))}


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_float64(library: Library, tmp_path: Path, name: str, compiler: str) -> None:
    case = CASES[name]
    made = build(tmp_path, library, case.text(), case.at, compiler)
    for sizes in case.sizes:
        graph = library.parse(case.text())
        inputs = library.inputs(graph, sizes)
        given = [case.layout(x) for x in draw_inputs(case, inputs)]
        results = [
            case.layout(torch.full(y.shape(), 7).to(DTYPES[y.dtype]))
            for y in library.outputs(graph, inputs)
        ]
        code = run_made(made, case.arguments(read_sizes(sizes)), given, results)
        assert code == 0, made.made_error(code)
        wanted = library.reference(case.text(), sizes, given)
        for i, (got, want) in enumerate(zip(results, wanted, strict=True)):
            if got.numel():
                assert_close(got, want, f"{name} at {sizes}, output {i}")


def test_strides_may_be_left_out(library: Library, tmp_path: Path) -> None:
    case = CASES["depthwise_residual"]
    made = build(tmp_path, library, case.text(), case.at)
    given = draw_inputs(case, library.inputs(library.parse(case.text()), "N=2,H=5,W=6"))
    results = [torch.empty(2, 9, 5, 6)]
    assert run_made(made, [2, 5, 6], given, results, contiguous=True) == 0
    (wanted,) = library.reference(case.text(), "N=2,H=5,W=6", given)
    assert_close(results[0], wanted, "without strides")


def test_wrong_calls_are_told_in_words(library: Library, tmp_path: Path) -> None:
    case = CASES["conv2d_min_tanh_tanh"]
    made = build(tmp_path, library, case.text(), case.at)
    tensors = [torch.zeros(1, 16, 4, 4), torch.zeros(64, 16, 3, 3), torch.zeros(64)]
    result = [torch.full((1, 1, 2, 2), 7.0)]

    def said(sizes: list[int], *, stride: int = 1, workspace: bool = True) -> str:
        arguments: list[Any] = [ctypes.c_int64(size) for size in sizes]
        for x in tensors + result:
            strides = (ctypes.c_int64 * x.dim())(*[stride * s for s in x.stride()])
            arguments += [ctypes.c_void_p(x.data_ptr()), strides]
        memory = ctypes.create_string_buffer(made.made_workspace()) if workspace else None
        code = made.made(*arguments, memory)
        assert code != 0
        return str(made.made_error(code).decode())

    assert said([-1, 4, 4]) == "made: a size is negative or above 2^40"
    assert said([1, 2, 4]) == "made: the input with its padding is smaller than the kernel"
    assert "a stride is negative" in said([1, 4, 4], stride=-1)
    assert said([1, 4, 4], workspace=False) == "made: a tensor or the workspace is NULL"
    assert bool((result[0] == 7).all())
    assert made.made_error(99) == b"made: unknown error"


def test_two_regions_are_two_functions(library: Library, tmp_path: Path) -> None:
    text = (
        "graph g {\n  %x = input : f32[N, 40, W]\n  %s = softmax %x {dim=1}\n"
        "  %t = softmax %s {dim=2}\n  output %t\n}\n"
    )
    made = build(tmp_path, library, text, "N=2,W=12")
    x = torch.randn(2, 40, 12)
    between, result = torch.empty_like(x), torch.empty_like(x)
    memory = ctypes.create_string_buffer(made.made_workspace())
    for function, sizes, tensors in (
        (made.made_1, (2, 12), (x, between)),
        (made.made_2, (2, 40), (between, result)),
    ):
        arguments: list[Any] = [ctypes.c_int64(size) for size in sizes]
        for tensor in tensors:
            arguments += [ctypes.c_void_p(tensor.data_ptr()), None]
        assert function(*arguments, memory) == 0
    (wanted,) = library.reference(text, "N=2,W=12", [x])
    assert_close(result, wanted, "two regions")


def test_what_cannot_be_written_is_said(library: Library) -> None:
    mixed = (
        "graph g {\n  %x = input : f32[4, 8]\n  %y = input : f64[4, 8]\n  %s = softmax %x {dim=1}\n"
        "  %t = softmax %y {dim=1}\n  output %s, %t\n}\n"
    )
    with pytest.raises(ValueError, match="a file has one type"):
        library.emit(mixed, "", "made")
    for name in ("2nd", "a-b", "run", ""):
        with pytest.raises(ValueError, match="cannot name a C function"):
            library.emit(CASES["softmax_rows"].text(), "N=2,H=2", name)


def test_example_is_built_from_a_written_file(sgc: Path, tmp_path: Path) -> None:
    source = Path(__file__).resolve().parents[2] / "examples" / "c" / "file"
    build_dir = tmp_path / "build"
    configure = f"cmake -S {source} -B {build_dir} -G Ninja -DSGC={sgc}"
    for command in (configure, f"cmake --build {build_dir}", f"{build_dir}/main"):
        subprocess.run(command.split(), check=True, capture_output=True)
