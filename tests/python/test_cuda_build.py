"""Every strategy's kernels through NVRTC, without a GPU.

Nothing spills, nothing lies in local memory, and the matrix instructions that a strategy lives from
are there.
"""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "cuda"))

import build_cases as cases
import nvrtc

pytestmark = pytest.mark.skipif(
    not nvrtc.available(), reason="NVRTC and nvdisasm are in dev-requirements.txt"
)

PRODUCTS = [*cases.anchor_texts(cases.MODELS), *cases.anchor_texts(cases.PRODUCTS)]
MANY_TAPS = list(cases.anchor_texts(cases.MANY_TAPS))
ANCHORS = [*PRODUCTS, *cases.anchor_texts(cases.OTHERS)]
STREAMS = list(cases.stream_texts())


@dataclass(frozen=True)
class Family:
    """A strategy on an architecture, and the graphs to try it on."""

    strategy: str
    architecture: str
    precision: str
    graphs: list[str]
    least: int  # so many of them it takes
    dtype: str = "f32"  # of all tensors

    @property
    def name(self) -> str:
        """For the test's id."""
        return f"{self.strategy}-{self.architecture}-{self.precision}-{self.dtype}"

    @property
    def words(self) -> list[str]:
        """Options of sgc."""
        words = ["--gpu", self.architecture, "--precision", self.precision]
        return [*words, "--strategy", self.strategy]


FAMILIES = [
    Family("wgmma_ring", "sm_90a", "tf32", [*PRODUCTS, *MANY_TAPS], 7),
    Family("wgmma_ring", "sm_90a", "tf32", PRODUCTS, 6, "f16"),
    Family("wgmma_ring", "sm_90a", "fp32", PRODUCTS, 4),
    Family("wgmma_gathered", "sm_90a", "tf32", PRODUCTS, 1),
    Family("wgmma_gathered", "sm_90a", "fp32", PRODUCTS, 1),
    Family("wgmma_packed", "sm_90a", "tf32", PRODUCTS, 1),
    Family("wgmma_packed", "sm_90a", "fp32", PRODUCTS, 1),
    Family("wgmma_packed", "sm_90a", "tf32", PRODUCTS, 1, "f16"),
    Family("wgmma_streamed", "sm_90a", "tf32", PRODUCTS, 4),
    Family("wgmma_streamed", "sm_90a", "fp32", PRODUCTS, 4),
    Family("wgmma_streamed", "sm_90a", "tf32", PRODUCTS, 4, "bf16"),
    Family("mma", "sm_90a", "tf32", PRODUCTS, 6),
    Family("mma", "sm_80", "tf32", PRODUCTS, 6),
    Family("mma", "sm_80", "fp32", PRODUCTS, 4),
    Family("mma", "sm_90a", "fp32", PRODUCTS, 6, "f64"),
    Family("mma", "sm_80", "fp32", PRODUCTS[:6], 4, "f64"),
    Family("implicit_gemm", "sm_90a", "tf32", PRODUCTS, 6),
    Family("implicit_gemm", "sm_80", "tf32", PRODUCTS, 6),
    Family("implicit_gemm", "sm_80", "fp32", PRODUCTS, 6),
    Family("direct", "sm_90a", "fp32", ANCHORS, len(ANCHORS)),
    Family("direct", "sm_80", "fp32", ANCHORS, len(ANCHORS)),
    Family("stream", "sm_90a", "fp32", STREAMS, len(STREAMS)),
    Family("stream", "sm_80", "fp32", STREAMS, len(STREAMS)),
]


# The instruction that a kernel lives from.
MATRIX = {"segue_conv_wgmma": "HGMMA", "segue_mma": "[HD]MMA", "segue_implicit_gemm": "HMMA"}
# Kernels of which ptxas must not let one product wait for another, as it may where it cannot follow
# what happens to the registers of sums; it then says so.
PIPELINED = {"segue_conv_wgmma_gathered", "segue_conv_wgmma_ring"}


@dataclass(frozen=True)
class Unit:
    """One launch's source."""

    source: str
    architecture: str
    title: str


def split(dumped: str) -> list[str]:
    """Sources of the launches that sgc printed."""
    return re.split(r"^launch \d+:\n", dumped, flags=re.MULTILINE)[1:]


def entry(source: str) -> str:
    """Name of the kernel."""
    found = re.search(r"\b(segue_\w+)\(", source)
    return found[1] if found else "?"


def units_of(sgc: Path, family: Family) -> dict[str, Unit]:
    """All different launches; fails when too few graphs are taken."""
    units: dict[str, Unit] = {}
    taken = 0
    for text in family.graphs:
        text = text.replace("f32", family.dtype)
        command = [str(sgc), "dump", "--stage", "cuda", *family.words, "-"]
        ran = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert ran.returncode in (0, 1), ran.stderr
        taken += ran.returncode == 0
        for i, source in enumerate(split(ran.stdout)):
            title = f"{family.name}, launch {i}, {entry(source)} of\n{text}"
            units.setdefault(source, Unit(source, family.architecture, title))
    assert taken >= family.least, f"only {taken} of {len(family.graphs)} graphs are taken"
    return units


def objections(unit: Unit) -> list[str]:
    """What is wrong with a unit once it is built."""
    try:
        built = nvrtc.compile_source(unit.source, unit.architecture)
    except nvrtc.CompileError as error:
        return [f"{unit.title}{error}"]
    found = []
    code = built.instructions()
    if built.local_bytes or re.search(r"\b(LDL|STL)\b", code):
        found.append(f"{unit.title}{built.local_bytes} bytes of local memory\n{built.report}")
    if entry(unit.source) in PIPELINED and "serialized" in built.log:
        found.append(f"{unit.title}products wait for each other\n{built.log}")
    for name, instruction in MATRIX.items():
        if entry(unit.source).startswith(name) and not re.search(rf"\b{instruction}\b", code):
            found.append(f"{unit.title}no {instruction}")
    return found


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_builds(sgc: Path, family: Family) -> None:
    units = units_of(sgc, family)
    with ThreadPoolExecutor(max_workers=2) as pool:
        found = [line for lines in pool.map(objections, units.values()) for line in lines]
    assert not found, f"{len(found)} of {len(units)} units\n" + "\n\n".join(found)
