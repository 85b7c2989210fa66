"""Emitted units without a GPU: their host functions run on a stub of the CUDA runtime.

The stub writes launches down; `segue_launches` says what they should be for the same plan, sizes
and strides. So every formula and every assumption of a text is held against what lowering computes.
"""

from __future__ import annotations

import ctypes
import math
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segue._core import Graph

HERE = Path(__file__).resolve().parent
PRECISIONS = {"fp32": 0, "tf32": 1, "tf32_even": 2}
PROCESSORS = 132
INPUT = re.compile(r"%\w+ = input\b[^:]*: (\w+)\[([^\]]*)\]")
# The namespace of a kernel, behind its title.
SPACE = re.compile(
    r"^/\* ---- (\w+) -+ \*/\nnamespace \1 \{\n(.*?)^\} // namespace \1$", re.DOTALL | re.MULTILINE
)
WORDS_MAX, LAUNCHES_MAX = 256, 8
WORKSPACE = 1 << 40

Layout = tuple[str, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Tensors:
    """Layouts of a graph's inputs and outputs, and how far off their addresses are."""

    inputs: tuple[Layout, ...]
    outputs: tuple[Layout, ...]
    offset: int = 0

    @property
    def all(self) -> tuple[Layout, ...]:
        """Inputs, then outputs."""
        return self.inputs + self.outputs

    def address(self, index: int) -> int:
        """Of tensor number `index`."""
        return ((index + 1) << 32) + self.offset


@dataclass(frozen=True)
class Launch:
    """One launch: its kernel, its shape and its words."""

    entry: str
    blocks: int
    threads: int
    words: tuple[int, ...]


@dataclass(frozen=True)
class Lowered:
    """What lowering says of a plan: launches, and of each its source and what that assumes."""

    launches: list[Launch]
    sources: list[str]
    assumed: list[frozenset[str]]


def tensors(text: str) -> Tensors:
    """All of a graph without symbols, contiguous."""
    inputs = [
        contiguous((dtype, tuple(int(n) for n in sizes.split(",") if n.strip()), ()))
        for dtype, sizes in INPUT.findall(text)
    ]
    return Tensors(tuple(inputs), tuple(Graph(text).infer(inputs)))


def relaid(of: Tensors, how: Callable[[Layout], Layout]) -> Tensors:
    """The same tensors, lying otherwise."""
    return replace(of, inputs=tuple(map(how, of.inputs)), outputs=tuple(map(how, of.outputs)))


def dense(layout: Layout, order: Sequence[int]) -> Layout:
    """Dimensions from the outermost in memory on."""
    strides, step = [0] * len(order), 1
    for dim in reversed(order):
        strides[dim] = step
        step *= layout[1][dim]
    return layout[0], layout[1], tuple(strides)


def contiguous(layout: Layout) -> Layout:
    """In order."""
    return dense(layout, range(len(layout[1])))


def channels_last(layout: Layout) -> Layout:
    """Dimension 1 innermost, where there are pixels."""
    rank = len(layout[1])
    return dense(layout, [0, *range(2, rank), 1] if rank > 2 else range(rank))


def general(layout: Layout) -> Layout:
    """As make_layout_general in api/emit.c."""
    strides, step = [], 3
    for size in reversed(layout[1]):
        strides.append(step)
        step = (step * size + 2) | 1
    return layout[0], layout[1], tuple(reversed(strides))


# ---- the unit on the host ------------------------------------------------------------------------


def for_host(unit: str) -> str:
    """A unit whose kernels are empty: all that is left is what the host does."""
    code, arguments = re.search(r"namespace (\w+_code) \{", unit), "struct Arguments {"
    assert code
    kernels = []

    def empty(match: re.Match[str]) -> str:
        name, body = match[1], match[2]
        entry = re.search(r"__global__ void(?:\s+__launch_bounds__\([^;{]*?\))?\s+(\w+)\(", body)
        begin = body.index(arguments)
        assert entry
        kernels.append((f"{code[1]}::{name}", entry[1], "__CUDA_ARCH_FEAT" in body))
        return (
            f"namespace {name} {{\n{body[begin : body.index('};', begin) + 2]}\n"
            f"void {entry[1]}(Arguments) {{}}\n}}\n"
        )

    head, rest = unit[: code.start()], unit[code.start() :]
    space = SPACE.search(rest)
    assert space
    types = "".join(f"struct {t} {{ unsigned short bits; }};\n" for t in ("half_t", "bfloat_t"))
    types += "struct bool_t { unsigned char bits; };\n"
    stride = "struct Stride { long long n, c, d, h, w; };"
    rest = re.sub(SPACE, empty, rest[space.start() :])
    sizes = "".join(
        f"    if (kernel == (const void *){space}::{entry})\n"
        f"        return sizeof({space}::Arguments);\n"
        for space, entry, _ in kernels
    )
    guards = " || ".join(
        f"kernel == (const void *){space}::{entry}" for space, entry, guarded in kernels if guarded
    )
    names = "".join(
        f'    if (kernel == (const void *){space}::{entry})\n        return "{space}::{entry}";\n'
        for space, entry, _ in kernels
    )
    return (
        f"{head}namespace {code[1]} {{\n{types}{stride}\n{rest}\n"
        f"size_t bytes_of(const void *kernel) {{\n{sizes}    return 0;\n}}\n"
        "bool is_guarded(const void *kernel) {\n    (void)kernel;\n"
        f"    return {guards or 'false'};\n}}\n"
        f'extern "C" const char *name_of(const void *kernel) {{\n{names}    return "";\n}}\n'
    ).replace("__restrict__", "")


class Unit:
    """An emitted unit, built for the host."""

    def __init__(self, text: str, name: str, folder: Path, source: str = "") -> None:
        """source: the same as a file of its own, whose title tells the plans."""
        self.text, self.name, self.title = text, name, source[: source.find("*/")]
        unit, library = folder / "unit.cpp", folder / "unit.so"
        unit.write_text(for_host(text), encoding="utf-8")
        command = [
            "g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-shared",
            "-fPIC", f"-I{HERE / 'stub'}", str(unit), "-o", str(library),
        ]  # fmt: skip
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr
        self.library = ctypes.CDLL(str(library))
        self.library.name_of.restype = ctypes.c_char_p
        self.library.name_of.argtypes = [ctypes.c_void_p]
        getattr(self.library, name).restype = ctypes.c_char_p
        found = re.search(r"prepare\(\w+::.*?\{", text, re.DOTALL)
        self.first = found[0] if found else ""
        self.took_first = False
        # The comment says of every tensor what its sizes are, the head which of them are given.
        head = re.search(
            rf"/\*((?:(?!\*/).)*)\*/\s*extern \"C\" [^;]*\*{name}\((.*?)\);", text, re.DOTALL
        )
        assert head
        words = re.sub(r"\s+\*?\s*", " ", head[1])
        self.sizes = [s.split(", ") for s in re.findall(r"\w+: \w+ \[(.*?)\]", words)]
        self.works = "void *workspace" in head[2]
        self.given = re.findall(r"long long (\w+)", head[2])

    def plan(self, first: bool) -> tuple[str, str]:
        """Strategy and plan of a path, as the title says."""
        title = re.sub(r"\s*\n \*\s*", " ", self.title)
        begin = "First path" if first else "Any sizes and addresses"
        found = re.search(begin + r" \((\w+)\): [^;]*;([^.]*)\.", title)
        assert found, title
        numbers = [n.split()[-1] for n in found[2].split(",")]
        return found[1], ",".join(numbers)

    def call(self, of: Tensors) -> tuple[str, list[Launch]]:
        """What is wrong, in a sentence, and what was launched."""
        words = [of.address(index) for index in range(len(of.all))]
        words += [WORKSPACE] * self.works
        numbers: dict[str, int] = {}
        for sizes, (_, actual, _) in zip(self.sizes, of.all, strict=True):
            numbers |= {s: n for s, n in zip(sizes, actual, strict=True) if s not in numbers}
        words += [numbers[name] for name in self.given]
        arguments = [*map(ctypes.c_longlong, words), None]
        count = ctypes.c_int.in_dll(self.library, "launch_count")
        count.value = 0
        wrong = getattr(self.library, self.name)(*arguments)
        fields = 5 + WORDS_MAX
        raw = (ctypes.c_longlong * (fields * LAUNCHES_MAX)).in_dll(self.library, "launches")
        made = []
        for i in range(count.value):
            row = raw[i * fields : (i + 1) * fields]
            _, space, entry = self.library.name_of(row[0]).decode().split("::")
            made.append(Launch(entry, row[1], row[2], tuple(row[5:])))
            self.took_first = f"prepare({space}::{entry}," in self.first
        return wrong.decode() if wrong else "", made

    def allow_first(self, allowed: bool) -> None:
        """Whether the file was built for sm_90a, too; before the first call."""
        ctypes.c_int.in_dll(self.library, "threads_most").value = 1024 if allowed else 32


def kernels_alone(unit: str) -> str:
    """A unit without its host's side, for NVRTC, which takes no headers."""
    code = re.search(
        r"^namespace \w+_code \{\n.*?(?=^/\* ---- the host's side)", unit, re.DOTALL | re.MULTILINE
    )
    assert code
    return code[0] + "}\n"


# ---- what lowering says --------------------------------------------------------------------------


def lowered(
    program: Path, text: str, of: Tensors, plan: tuple[str, str], precision: str, alignment: int,
    folder: Path,
) -> Lowered | None:  # fmt: skip
    """Launches of a plan; None where the plan cannot be kept."""
    folder.mkdir(exist_ok=True)
    (folder / "graph").write_text(text, encoding="utf-8")
    strides = [" ".join(map(str, layout[2])) for layout in of.all]
    (folder / "layouts").write_text("\n".join(strides) + "\n", encoding="utf-8")
    command = [
        str(program), plan[0], str(PRECISIONS[precision]), str(alignment), plan[1] + ",",
        str(PROCESSORS), str(folder),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 2:
        return None
    assert result.returncode == 0, result.stderr
    lines = iter(result.stdout.splitlines())
    count = int(next(lines).split()[0])
    launches = []
    for _ in range(count):
        entry, blocks, threads, words = next(lines).split()
        rows = [tuple(map(int, next(lines).split())) for _ in range(int(words))]
        numbers = [_word(kind, index, number, of) for kind, index, number in rows]
        launches.append(Launch(entry, int(blocks), int(threads), tuple(numbers)))
    sources = [(folder / f"{i}.cu").read_text(encoding="utf-8") for i in range(count)]
    assumed = [(folder / f"{i}.assumed").read_text(encoding="utf-8") for i in range(count)]
    return Lowered(launches, sources, [frozenset(text.splitlines()) for text in assumed])


def _word(kind: int, index: int, number: int, of: Tensors) -> int:
    if kind == 0:
        return number
    if kind == 3:
        return WORKSPACE + number
    return of.address(index if kind == 1 else len(of.inputs) + index)


def elements(layout: Layout) -> int:
    """Of a tensor."""
    return math.prod(layout[1])
