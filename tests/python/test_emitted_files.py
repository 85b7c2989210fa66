"""Files that `segue compile` writes: what can be told of them without a GPU."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from segue import cli, emit, emit_kernels, emit_plan, emit_trace, modelfile, runtime

TESTS = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((TESTS.parent / "examples").glob("*.py"))
MODELS = [*EXAMPLES, *sorted((TESTS / "models").glob("*.py"))]
UNFUSED = ("circular_padding",)  # nothing of it can be
LARGE = [p.stem for p in EXAMPLES]  # of their images a part
WANTED = emit_plan.Wanted("sm_90a", "tf32")


@pytest.fixture(scope="module")
def subjects() -> dict[str, emit.Subject | str]:
    """What there is to write for every model, by its name."""
    return {p.stem: emit.examine(modelfile.load_with_inputs(p), None, WANTED) for p in MODELS}


@pytest.fixture(scope="module")
def files(
    subjects: dict[str, emit.Subject | str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The files."""
    folder = tmp_path_factory.mktemp("files")
    for path in MODELS:
        subject = subjects[path.stem]
        if isinstance(subject, str):
            text = emit.write_plain(modelfile.load(path), subject, "segue compile")
        else:
            text = emit.write(subject, WANTED, None, "segue compile")
        (folder / path.name).write_text(text, encoding="utf-8")
    return {path.stem: folder / path.name for path in MODELS}


@pytest.fixture(scope="module")
def alone(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process without Segue found of every file."""
    result = tmp_path_factory.mktemp("alone") / "found.json"
    words = [str(w) for path in MODELS for w in (path, files[path.stem])]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    child = TESTS / "emitted_child.py"
    subprocess.run(
        [sys.executable, str(child), "cpu", str(result), *words], check=True, env=environment
    )
    found = json.loads(result.read_text(encoding="utf-8"))
    return {Path(path).stem: points for path, points in found.items()}


@pytest.mark.parametrize("name", [p.stem for p in MODELS])
def test_alone(name: str, alone: dict[str, Any]) -> None:
    """The original on the CPU bit for bit: results, gradients, numbers, state."""
    assert [point for point, holds in alone[name].items() if not holds] == []


def test_something_is_fused(subjects: dict[str, Any]) -> None:
    unfused = [n for n, s in subjects.items() if isinstance(s, str)]
    assert unfused == list(UNFUSED), {n: subjects[n] for n in unfused}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"emitted_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def instead(compiled: emit_plan.Compiled, function: Any, trace: emit_trace.Trace) -> Any:
    """A region's function, by PyTorch's operators; checks the sizes that the file gives."""
    nodes = [dataclasses.replace(n, in_place=False) for n in compiled.nodes]
    step = runtime.HostStep(trace.capture, nodes, {})
    fixed = {i: v.fixed for i, v in enumerate(trace.capture.values) if v.fixed is not None}

    def run(*given: Tensor) -> Any:
        by_name = {p.name: x for p, x in zip(function.parameters, given, strict=True)}
        for p, x in zip(function.parameters, given, strict=True):
            assert x.dtype == p.dtype
            sizes = [eval(size, {}, by_name) for size in p.sizes]
            assert [n if s is None else s for s, n in zip(sizes, x.shape, strict=True)] == [
                *x.shape
            ], (p, x.shape)
        values: Any = {**fixed, **dict(zip(compiled.region.inputs, given, strict=True))}
        step.run(values)
        results = [values[v] for v in compiled.region.outputs]
        for (dtype, sizes), result in zip(function.results, results, strict=True):
            assert result.dtype == dtype
            assert [eval(size, {}, by_name) for size in sizes] == [*result.shape]
        return results[0] if len(results) == 1 else results

    return run


def smaller(name: str, inputs: list[Tensor]) -> Iterator[list[Tensor]]:
    """The file's inputs, cut."""
    yield [x[:2] if name not in LARGE else x[:2, ..., :40, :44] for x in inputs]
    if name != "keyword_arguments":  # its second argument follows from the first
        side = 43 if name in LARGE else 10**6
        yield [x[:1, ..., 3:side].contiguous() for x in inputs]
        yield [x[:3, :, 1:side].contiguous() for x in inputs]
    else:
        x, gate = (i[:3] for i in inputs)
        yield [x[:, :, :50, :41].contiguous(), gate[:, :, :23, :19].contiguous()]


@pytest.mark.parametrize("name", [p.stem for p in MODELS if p.stem not in UNFUSED])
def test_fused_statements(
    name: str, files: dict[str, Path], subjects: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """fused(), with PyTorch's operators in the place of kernels, equals forward() at all sizes."""
    subject = subjects[name]
    module = load(files[name])
    made = {
        function.name: instead(compiled, function, subject.trace)
        for compiled, function in zip(subject.plan.regions, subject.functions, strict=True)
    }
    monkeypatch.setattr(module, "run_kernel", lambda name, *given: made[name](*given))
    torch.manual_seed(0)
    model = module.ModelNew(*module.get_init_inputs()).eval()
    monkeypatch.setattr(module, "batch_size", 3, raising=False)
    with torch.no_grad():
        for inputs in smaller(name, module.get_inputs()):
            got, wanted = model.fused(*inputs), module.Model.forward(model, *inputs)
            torch.testing.assert_close(got, wanted, rtol=0, atol=0, equal_nan=True)


CHANGES = {
    "a setting": ("self.conv.stride is (2, 2)", lambda m: setattr(m.conv, "stride", (2, 2))),
    "another class": ("is no Conv2d", lambda m: setattr(m, "conv", torch.nn.Conv1d(16, 64, 3))),
    "a hook": ("has hooks", lambda m: m.conv.register_forward_hook(lambda *_: None)),
    "a CPU tensor": ("no ordinary tensor on a GPU", lambda _: None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_assumptions(change: str, files: dict[str, Path]) -> None:
    """What does not hold is said in a sentence."""
    module = load(files["conv2d_min_tanh_tanh"])
    model = module.ModelNew(16, 64, 3)
    sentence, apply = CHANGES[change]
    apply(model)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        model.fused(torch.rand(2, 16, 8, 8))


def test_settings_of_the_model(files: dict[str, Path]) -> None:
    module = load(files["conv2d_scale_min"])
    with pytest.raises(ValueError, match=r"self.scale_factor is 3.0, .* written for 2.0"):
        module.ModelNew(64, 128, 3, 3.0).fused(torch.rand(2, 64, 8, 8))


def test_conditions(files: dict[str, Path]) -> None:
    """A branch on sizes is remembered."""
    module = load(files["nested_blocks"])
    with pytest.raises(ValueError, match=re.escape("x.shape[2] > 4 is False")):
        module.ModelNew().eval().fused(torch.rand(2, 8, 4, 8))


def test_binding_compiles(files: dict[str, Path], tmp_path: Path) -> None:
    """The C++ of a file with two kernels, against PyTorch's headers; needs CUDA's."""
    headers = Path("/usr/local/cuda/include")
    if not (headers / "cuda_runtime_api.h").exists():
        pytest.skip("CUDA's headers are not here")
    source = tmp_path / "binding.cpp"
    module = load(files["two_regions"])
    source.write_text(module.DECLARATIONS + module.BINDING, encoding="utf-8")
    made = tmp_path / "c10" / "cuda" / "impl" / "cuda_cmake_macros.h"  # not in builds for CPUs
    made.parent.mkdir(parents=True)
    made.touch()
    import sysconfig

    from torch.utils.cpp_extension import include_paths

    folders = [*include_paths(), str(headers), str(tmp_path), sysconfig.get_path("include")]
    words = ["c++", "-std=c++20", "-fsyntax-only", "-DTORCH_EXTENSION_NAME=x", "-O0"]
    subprocess.run([*words, *(f"-I{f}" for f in folders), str(source)], check=True)


def test_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with a command or a file."""
    model = tmp_path / "model.py"
    text = (TESTS / "models" / "two_regions.py").read_text(encoding="utf-8")
    model.write_text(text.replace("def get_init_inputs", "def run_kernel"), encoding="utf-8")
    assert cli.main(["compile", str(model), "-o", str(tmp_path / "new.py")]) == 2
    assert "defines run_kernel, a name that the new file needs itself" in capsys.readouterr().err
    assert cli.main(["compile", str(EXAMPLES[0]), "-o", str(tmp_path / "no" / "new.py")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    words = ["compile", str(EXAMPLES[0]), "-o", str(tmp_path / "new.py"), "--gpu", "sm_12"]
    assert cli.main(words) == 2
    assert "sm_12" in capsys.readouterr().err


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_gallery(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gallery/ is what `make gallery` would write."""
    root = TESTS.parent
    monkeypatch.chdir(root)
    made = tmp_path / path.name
    monkeypatch.setattr(emit, "save", lambda _, text: made.write_text(text) and made)
    words = ["compile", f"examples/{path.name}", "-o", f"gallery/{path.name}", "--gpu", "sm_90a"]
    assert cli.main([*words, "--figures", "bench/results/nvidia-h200/results.json"]) == 0
    kept = (root / "gallery" / path.name).read_text(encoding="utf-8")
    assert made.read_text(encoding="utf-8") == kept, "run `make gallery`"


LINES = {
    "conv2d_scale_min": 1020,
    "conv2d_min_tanh_tanh": 967,
    "conv2d_min_add_mul": 1196,
    "conv3d_min_softmax": 1470,
}


@pytest.mark.parametrize("name", LINES)
def test_length(name: str) -> None:
    """People are to read these files; what makes them longer has to be worth it."""
    text = (TESTS.parent / "gallery" / f"{name}.py").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= LINES[name], f"{len(lines)} lines"
    # Lists of sizes, of the title, may be wider.
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_c_folder(device: str, tmp_path: Path) -> None:
    """--emit c: a source and a header a kernel, and a project that names them all."""
    model = TESTS / "models" / "two_regions.py"
    folder, ending = tmp_path / "kernels", "cu" if device == "cuda" else "c"
    words = ["compile", str(model), "-o", str(folder), "--emit", "c", "--device", device]
    assert cli.main(words) == 0
    sources = sorted(p.name for p in folder.glob(f"*.{ending}"))
    assert sources == [f"conv2d_amin_tanh.{ending}", f"conv2d_relu_mul.{ending}"]
    cmake = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    assert all(name in cmake for name in sources)
    for name in sources:
        header = Path(name).with_suffix(".h")
        assert f'#include "{header}"' in (folder / name).read_text(encoding="utf-8")
        if device == "cpu":
            words = ["cc", "-std=c11", "-Wall", "-Werror", "-fsyntax-only", str(folder / name)]
            subprocess.run(words, check=True)


def test_names() -> None:
    assert emit_kernels.identifier("3d-model.v2") == "model_3d_model_v2"


def test_bindings_declare_no_name_twice(files: dict[str, Path]) -> None:
    """Whatever a model calls its tensors: they are parameters among the binding's own variables."""
    seen = 0
    for name, path in files.items():
        text = path.read_text(encoding="utf-8")
        for call in re.finditer(
            r"^static [\w:<>]+ call_\w+\((.*?)\) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL
        ):
            taken, body = call.groups()
            names = re.findall(r"&(\w+)", taken)
            names += re.findall(
                r"^ +(?!return)(?:const )?[\w:]+ (\w+)(?: =|;|\()", body, re.MULTILINE
            )
            assert len(set(names)) == len(names), f"{name}: {names}"
            seen += 1
    assert seen >= len(LARGE)
