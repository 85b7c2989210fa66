"""Options, seeds and collection for the whole suite: C units, text cases, Python tests."""

import difflib
import importlib.metadata
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from text_case import TextCase

ROOT = Path(__file__).resolve().parents[1]

# A leak is a failure too, and undefined behaviour says where it was.
os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=1:strict_string_checks=1")
os.environ.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")


def packaged_nvrtc() -> Path | None:
    """NVRTC from its package, for tests in C that build kernels; without it they say so."""
    try:
        files = importlib.metadata.files("nvidia-cuda-nvrtc") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(f.locate()) for f in files if f.name.startswith("libnvrtc.so")), None)


if found := packaged_nvrtc():
    os.environ.setdefault("SEGUE_NVRTC", str(found))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("segue")
    group.addoption(
        "--build-dir",
        action="append",
        default=[],
        metavar="DIR",
        help="CMake build folder whose segue_unit and sgc are tested; may be given more than once",
    )
    group.addoption("--update", action="store_true", help="rewrite what text cases expect")
    group.addoption("--seed", type=int, default=0, help="other random numbers for every test")


def build_dirs(config: pytest.Config) -> list[Path]:
    """The folders named; otherwise the one `make test` builds, otherwise build/."""
    named = [Path(d).resolve() for d in config.getoption("--build-dir")]
    made = ROOT / "build" / "test"
    return named or [made if (made / "segue_unit").exists() else ROOT / "build"]


def program(build_dir: Path, name: str) -> Path:
    """A program of a build folder; an error of the whole run when it is not there."""
    path = build_dir / name
    if not path.exists():
        raise pytest.UsageError(f"{path} is not built")
    return path


@pytest.fixture(scope="session")
def build_dir(pytestconfig: pytest.Config) -> Path:
    """The first build folder, the one without sanitizers."""
    return build_dirs(pytestconfig)[0]


@pytest.fixture(scope="session")
def sgc(build_dir: Path) -> Path:
    """The C command line."""
    return program(build_dir, "sgc")


@pytest.fixture(autouse=True)
def seed(request: pytest.FixtureRequest) -> int:
    """Seeds every generator with a number of the test's own, shown when the test fails."""
    value = zlib.crc32(request.node.nodeid.encode()) ^ request.config.getoption("--seed")
    random.seed(value)
    for library, name in (("numpy.random", "seed"), ("torch", "manual_seed")):
        if library in sys.modules:
            getattr(sys.modules[library], name)(value)
    request.node.add_report_section("call", "seed", f"{value} (--seed changes it)")
    return value


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What Segue remembers stays in a folder of the run's own, in programs it starts too."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGUE_CACHE_DIR", str(folder))
        yield folder


# ---- GPU tests: collected only where there is a GPU, chosen by what it can do --------------------


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    if not collection_path.is_relative_to(ROOT / "tests" / "gpu"):
        return None
    import torch

    return None if torch.cuda.is_available() else True


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in (*item.iter_markers("sm"), *item.iter_markers("devices")):
        import torch

        wanted = marker.args[0]
        major, minor = torch.cuda.get_device_capability()
        there = 10 * major + minor if marker.name == "sm" else torch.cuda.device_count()
        if there < wanted:
            what = "the architecture sm_" if marker.name == "sm" else "GPUs: "
            pytest.skip(f"needs {what}{wanted}, there is {there}")


# ---- C units: one test for each name that segue_unit --list prints -------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "c_unit" not in metafunc.fixturenames:
        return
    units = []
    for build_dir in build_dirs(metafunc.config):
        unit = program(build_dir, "segue_unit")
        names = subprocess.run([unit, "--list"], capture_output=True, text=True, check=True).stdout
        units += [
            pytest.param((unit, name), id=f"{build_dir.name}-{name}") for name in names.split()
        ]
    metafunc.parametrize("c_unit", units)


# ---- text cases: one test for each file of tests/cases, see text_case.py -------------------------


class CaseDiffersError(Exception):
    """The command did something else; the argument is the difference."""


class CaseItem(pytest.Item):
    """One text case in one build folder."""

    build_dir: Path

    def runtest(self) -> None:
        expected = TextCase.parse(self.path.read_text(encoding="utf-8"))
        actual = expected.run(program(self.build_dir, "sgc"))
        if actual == expected:
            return
        if self.config.getoption("--update") and actual.status >= 0:
            self.path.write_text(actual.text(), encoding="utf-8")
            return
        texts = (expected.text().splitlines(), actual.text().splitlines())
        difference = difflib.unified_diff(*texts, "expected", "actual", n=1000, lineterm="")
        raise CaseDiffersError("\n".join(difference))

    def repr_failure(self, excinfo, style=None):
        if isinstance(excinfo.value, CaseDiffersError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self.path.stem}[{self.name}]"


class CaseFile(pytest.File):
    """A text case, once for every build folder."""

    def collect(self) -> Iterator[CaseItem]:
        for build_dir in build_dirs(self.config):
            item = CaseItem.from_parent(self, name=build_dir.name)
            item.build_dir = build_dir
            yield item


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.File | None:
    is_case = file_path.suffix == ".txt" and file_path.is_relative_to(ROOT / "tests" / "cases")
    return CaseFile.from_parent(parent, path=file_path) if is_case else None
