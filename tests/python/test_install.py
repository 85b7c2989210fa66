"""The installed C library, as a program of someone else's meets it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples" / "c").glob("*.c"))
HEADER = (ROOT / "include" / "segue.h").read_text(encoding="utf-8")
CC = os.environ.get("CC", "cc")

PROJECT = """
cmake_minimum_required(VERSION 3.20)
project(example C)
find_package(segue {version} EXACT REQUIRED)
add_executable(shared {source})
target_link_libraries(shared PRIVATE segue::segue)
add_executable(static {source})
target_link_libraries(static PRIVATE segue::segue_static)
"""


def run(*command: str | Path, **environment: str) -> str:
    """The stdout of a command that has to succeed."""
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


def version() -> str:
    numbers = re.findall(r"#define SG_VERSION_(?:MAJOR|MINOR|PATCH) +(\d+)", HEADER)
    assert len(numbers) == 3
    return ".".join(numbers)


@pytest.fixture(scope="module")
def prefix(build_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the library is installed. It was configured for another place, so it moves well."""
    prefix = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", build_dir, "--component", "library", "--prefix", prefix)
    return prefix


@pytest.fixture(scope="module")
def library_dir(prefix: Path) -> Path:
    (library,) = prefix.rglob("libsegue.so")
    return library.parent


@pytest.fixture(scope="module")
def pkg_config(library_dir: Path):
    """Asks pkg-config for words about the installed library."""

    def ask(*options: str) -> list[str]:
        path = str(library_dir / "pkgconfig")
        pkgconf = Path(sys.executable).with_name("pkgconf")
        return run(pkgconf, *options, "segue", PKG_CONFIG_PATH=path).split()

    return ask


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_through_pkg_config(example, pkg_config, library_dir, tmp_path):
    program = tmp_path / "example"
    run(CC, "-std=c17", example, "-o", program, *pkg_config("--cflags", "--libs"))
    run(program, LD_LIBRARY_PATH=str(library_dir))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_through_pkg_config_static(example, pkg_config, library_dir, tmp_path):
    program = tmp_path / "example"
    words = pkg_config("--cflags", "--libs", "--static")
    words = [str(library_dir / "libsegue.a") if word == "-lsegue" else word for word in words]
    run(CC, "-std=c17", example, "-o", program, *words)
    run(program)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_through_cmake(example, prefix, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(PROJECT.format(version=version(), source=example))
    build = tmp_path / "build"
    run("cmake", "-S", tmp_path, "-B", build, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", build)
    run(build / "shared")
    run(build / "static")


def test_sgc_is_installed_and_runs(prefix):
    assert version() in run(prefix / "bin" / "sgc", "version")


def test_versions_agree(pkg_config):
    assert pkg_config("--modversion") == [version()]


def test_header_stands_alone(tmp_path):
    source = tmp_path / "header.c"
    source.write_text("#include <segue.h>\n")
    for standard in ("c99", "c17"):
        flags = [f"-std={standard}", "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
        run(CC, *flags, f"-I{ROOT / 'include'}", source)


def test_exports_are_what_the_header_declares(library_dir):
    declared = re.findall(r"^SG_API [^;(]*?(\w+)\(", HEADER, re.MULTILINE)
    lines = run("nm", "--dynamic", "--defined-only", library_dir / "libsegue.so").splitlines()
    assert sorted(line.split()[-1] for line in lines) == sorted(declared)
