"""The check of include direction catches what it is there for."""

from pathlib import Path

import pytest

from check_includes import check

FILES = [
    "include/segue.h",
    "src/base/arena.h",
    "src/ir/ops.h",
    "src/ir/graph.h",
    "src/opt/opt.h",
    "src/gen/cpu/tile.h",
    "src/gen/cuda/skeleton.h",
    "src/api/handles.h",
    "kernels/cpu/kernels.h",
    "kernels/cpu/simd.h",
    "tests/c/unit.h",
    "tools/options.h",
]

ALLOWED = [
    ("src/base/arena.c", "segue.h"),
    ("src/opt/fold.c", "ir/graph.h"),
    ("src/opt/fold.c", "opt/opt.h"),
    ("src/opt/fold.c", "opt.h"),
    ("src/api/compile.c", "gen/cpu/tile.h"),
    ("src/run/cpu/run.c", "gen/cpu/tile.h"),
    ("src/run/cpu/run.c", "kernels/cpu/kernels.h"),
    ("src/gen/cpu/tile.c", "kernels/cpu/kernels.h"),
    ("kernels/cpu/tile.c", "ir/ops.h"),
    ("kernels/cpu/tile.c", "simd.h"),
    ("tests/c/graph.c", "ir/graph.h"),
    ("tools/sgc.c", "segue.h"),
]

WRONG = [
    ("src/base/arena.c", "ir/graph.h", "ir is above base"),
    ("src/ir/graph.c", "opt/opt.h", "opt is above ir"),
    ("src/ir/graph.c", "../opt/opt.h", "opt is above ir"),
    ("src/run/cpu/run.c", "api/handles.h", "api is above run"),
    ("src/gen/cpu/tile.c", "gen/cuda/skeleton.h", "gen/cuda is a sibling of gen/cpu"),
    ("src/run/cpu/run.c", "kernels/cpu/simd.h", "only src/gen/cpu"),
    ("src/gen/cuda/skeleton.c", "kernels/cpu/kernels.h", "only src/gen/cpu and src/gen/tile"),
    ("src/new/thing.c", "base/arena.h", "src/new has no place"),
    ("kernels/cpu/tile.c", "ir/graph.h", "kernels/ may include only"),
    ("kernels/cpu/tile.c", "base/arena.h", "kernels/ may include only"),
    ("src/ir/graph.c", "tests/c/unit.h", "src/ may not include tests/"),
    ("include/segue.h", "base/arena.h", "stands alone"),
    ("tools/sgc.c", "ir/graph.h", "only the public header"),
    ("src/ir/graph.c", "ir/missing.h", "no such file"),
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def write(tree: Path, includer: str, included: str) -> None:
    path = tree / includer
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#include <math.h>\n#  include "{included}"\n')


@pytest.mark.parametrize(("includer", "included"), ALLOWED)
def test_allowed(tree: Path, includer: str, included: str) -> None:
    write(tree, includer, included)
    assert check(tree) == []


@pytest.mark.parametrize(("includer", "included", "why"), WRONG)
def test_wrong(tree: Path, includer: str, included: str, why: str) -> None:
    write(tree, includer, included)
    (line,) = check(tree)
    assert line.startswith(f'{includer}:2: includes "{included}": ')
    assert why in line


def test_examples_include_what_sgc_writes(tree: Path) -> None:
    write(tree, "examples/c/main.c", "region.h")
    assert len(check(tree)) == 1
    (tree / "examples/c/region.sg").touch()
    assert check(tree) == []
