"""The extension: graphs, programs, guards and what they refuse; nothing leaks."""

from __future__ import annotations

import gc
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segue import _core
from segue.dropin import make_dropin
from segue.prepare import _make_check
from segue.programs import Options

TEXT = """graph conv_min_tanh {
  %x = input : f32[N, 3, H, W]
  %w = input {param=true} : f32[8, 3, 3, 3]
  %b = input {param=true} : f32[8]
  %c = convolution %x, %w, %b
  %m = amin %c {dim=[1], keepdim=true}
  %t = tanh %m
  output %t
}
"""


def layout(*shape: int) -> _core.Layout:
    return "f32", shape, torch.empty(shape).stride()


LAYOUTS = [layout(2, 3, 9, 11), layout(8, 3, 3, 3), layout(8)]


def compiled() -> _core.Program:
    return _core.Program(_core.Graph(TEXT), LAYOUTS, always=True)


def tensors() -> list[torch.Tensor]:
    return [torch.randn(sizes) for _, sizes, _ in LAYOUTS]


def expected(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.tanh(torch.conv2d(x, w, b).amin(1, True))


def test_graph_text_is_read_back() -> None:
    graph = _core.Graph(TEXT)
    assert graph.inputs == ("x", "w", "b")
    assert graph.outputs == ("t",)
    assert _core.Graph(graph.text()).text() == graph.text()


def test_graph_infers_layouts() -> None:
    assert _core.Graph(TEXT).infer(LAYOUTS) == (("f32", (2, 1, 7, 9), (63, 63, 9, 1)),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("graph g {\n  %y = tanhh %x\n}", "tanhh"),
        ("graph g {\n  %y = tanh %x\n}", "%x"),
        ("graph g {", "text ends"),
        ("", "graph"),
    ],
)
def test_what_a_graph_refuses(text: str, words: str) -> None:
    with pytest.raises(_core.SegueError, match=words):
        _core.Graph(text)


@pytest.mark.parametrize(
    ("layouts", "words"),
    [
        ([("f31", (1,), (1,))], "f31"),
        ([("f32", (1,), (1, 1))], "strides"),
        ([("f32", (1,) * 9, (1,) * 9)], "rank 9"),
        (LAYOUTS[:2], "3"),
    ],
)
def test_what_layouts_are_refused(layouts: list[Any], words: str) -> None:
    with pytest.raises(_core.SegueError, match=words):
        _core.Graph(TEXT).infer(layouts)


def test_errors_are_value_errors() -> None:
    assert issubclass(_core.SegueError, ValueError)
    assert issubclass(_core.NotApplicable, _core.SegueError)


def test_partition() -> None:
    steps, inputs, outputs = _core.Graph(TEXT).partition()
    assert (inputs, outputs) == (("x", "w", "b"), ("t",))
    ((foreign, _, reads, writes, region, _),) = steps
    assert not foreign
    assert (reads, writes) == (("x", "w", "b"), ("t",))
    assert region is not None
    assert region.outputs == ("t",)


def test_program_runs() -> None:
    program, inputs = compiled(), tensors()
    (out,) = (torch.full(sizes, torch.nan) for _, sizes, _ in program.outputs)
    program.run([x.data_ptr() for x in inputs], [out.data_ptr()], 1)
    torch.testing.assert_close(out, expected(*inputs))
    assert program.inputs == tuple(LAYOUTS)
    assert program.work()["kernels"] == 1
    assert program.work()["flops"] > 0
    assert "amin" in program.explain()


def test_program_refuses_other_counts() -> None:
    with pytest.raises(_core.SegueError, match="1 input"):
        compiled().run([1], [1])
    with pytest.raises(_core.SegueError, match="2 output layouts"):
        _core.Program(_core.Graph(TEXT), LAYOUTS, [LAYOUTS[0]] * 2)


def test_program_runs_from_many_threads() -> None:
    program, inputs = compiled(), tensors()
    outs = [torch.empty(2, 1, 7, 9) for _ in range(8)]

    def work(out: torch.Tensor) -> None:
        for _ in range(20):
            program.run([x.data_ptr() for x in inputs], [out.data_ptr()], 2)

    threads = [threading.Thread(target=work, args=(out,)) for out in outs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for out in outs:
        torch.testing.assert_close(out, expected(*inputs))


def test_reference_is_the_truth() -> None:
    graph, inputs = _core.Graph(TEXT), [x.double() for x in tensors()]
    out = torch.empty(2, 1, 7, 9, dtype=torch.float64)
    graph.reference(LAYOUTS, [x.data_ptr() for x in inputs], [out.data_ptr()])
    torch.testing.assert_close(out, expected(*inputs), rtol=1e-12, atol=1e-12)


def test_guard_sees_every_change() -> None:
    inner = [1.5, "x"]
    state: dict[str, Any] = {"a": 1, "b": inner}
    guard = _core.Guard([state, inner])
    assert guard.holds()
    state["a"] = 1.0
    assert not guard.holds()
    state["a"] = 1
    assert guard.holds()
    inner.append("y")
    assert not guard.holds()
    inner.pop()
    state["c"] = state.pop("b")
    assert not guard.holds()
    with pytest.raises(TypeError, match="dictionaries and lists"):
        _core.Guard([(1, 2)])  # type: ignore[list-item]


def test_guard_is_collected_with_its_cycle() -> None:
    state: dict[str, Any] = {}
    state["guard"] = _core.Guard([state])
    del state
    assert gc.collect() > 0


def resident_kilobytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def test_nothing_leaks() -> None:
    def round_of_everything() -> None:
        graph = _core.Graph(TEXT)
        graph.partition()
        graph.infer(LAYOUTS)
        _core.Program(graph, LAYOUTS, always=True).explain()
        with pytest.raises(_core.SegueError):
            _core.Graph("graph g {")

    for _ in range(100):
        round_of_everything()
    before = resident_kilobytes()
    for _ in range(300):
        round_of_everything()
    assert resident_kilobytes() - before < 2048


def test_tables() -> None:
    rows = json.loads(_core.operators_json())
    assert {"convolution", "amin", "softmax", "tanh"} <= {row["name"] for row in rows}
    assert json.loads(_core.machine_json())
    assert _core.version.count(".") == 2


def test_wisdom_comes_back() -> None:
    text = _core.wisdom_export()
    _core.wisdom_import(text)
    assert _core.wisdom_export() == text
    with pytest.raises(_core.SegueError):
        _core.wisdom_import("nonsense")


def test_check_of_layouts() -> None:
    """PyTorch's own check of several tensors at once, which prepared calls ask first."""
    x, w = torch.zeros(2, 3, 4), nn.Parameter(torch.zeros(3))
    check = _make_check((x, w))
    assert check is not None
    assert check(torch.ones(2, 3, 4), w)
    for other in (
        torch.zeros(2, 3, 5),
        torch.zeros(2, 4, 3).transpose(1, 2),
        torch.zeros(2, 3, 4, dtype=torch.float64),
        torch.zeros(2, 3, 4, requires_grad=True),
        torch.zeros(2, 3, 4, dtype=torch.complex64).imag._neg_view(),
    ):
        assert not check(other, w)
    assert not check(x, w.data)
    assert not check(x.to_sparse(), w)


def test_calls_without_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyTorch has no such check, or refuses what fits, calls go the long way."""

    def run_all(module: nn.Module) -> list[torch.Tensor]:
        made = make_dropin(module, Options(always=True), "error")
        with torch.no_grad():
            return [made(x) for x in inputs for _ in range(3)] + [made(inputs[0].mT)]

    inputs = [torch.rand(2, 3, 5, 5), torch.rand(1, 3, 7, 7), torch.rand(2, 3, 5, 5)]
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh())
    expected = run_all(module)
    for answer in (None, lambda *_: False):
        monkeypatch.setattr("segue.prepare._make_check", lambda _, answer=answer: answer)
        for result, wanted in zip(run_all(module), expected, strict=True):
            assert torch.equal(result, wanted)
