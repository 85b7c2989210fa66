"""What is kept between processes: used when sound, ignored when damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from segue import cache
from segue.capture import capture
from segue.layouts import memory


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.factor = 2.0

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(self.conv(x))
        return torch.softmax(y * self.factor, 1).amin(1) + torch.ones(1)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SEGUE_CACHE_DIR", str(tmp_path / "inner"))
    memory.forget()
    yield tmp_path / "inner"
    memory.forget()


def as_new_process() -> None:
    memory.forget()
    memory._loaded = False


def ran(model: nn.Module, x: Tensor) -> bool:
    """Whether capturing took a run on real data."""
    return capture(type(model).forward, model, (x,), {})[1] is not None


X = torch.randn(2, 3, 6, 7)


def test_layouts_serve_this_process_and_the_next() -> None:
    model = Model()
    assert ran(model, X)
    assert not ran(model, X)
    assert not ran(Model(), X)
    as_new_process()
    assert not ran(model, X)


def test_captures_are_equal_with_and_without_a_run() -> None:
    model = Model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    first, _ = capture(Model.forward, model, (X,), {})
    second, result = capture(Model.forward, model, (X,), {})
    assert result is None
    assert [v.layout for v in first.values] == [v.layout for v in second.values]
    assert [(n.target, n.args, n.kwargs) for n in first.nodes] == [
        (n.target, n.args, n.kwargs) for n in second.nodes
    ]


def test_other_arguments_are_not_known() -> None:
    model = Model()
    assert ran(model, X)
    assert ran(model, X[:1])
    assert ran(model, X.to(memory_format=torch.channels_last))
    assert ran(model.double(), X.double())
    other = Model()
    other.conv.padding = (1, 1)
    assert ran(other, X)
    other.factor = 3.0
    assert ran(other, X)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"a": 1}', "\0" * 100])
def test_damaged_files_are_ignored_and_written_anew(folder: Path, text: str) -> None:
    model = Model()
    assert ran(model, X)
    whole = cache.layouts_file().read_text()
    cache.layouts_file().write_text(text or whole[: len(whole) // 2])
    as_new_process()
    assert ran(model, X)
    as_new_process()
    assert not ran(model, X)


def test_damaged_entries_are_not_used(folder: Path) -> None:
    model = Model()
    assert ran(model, X)
    text = cache.layouts_file().read_text()
    cache.layouts_file().write_text(text.replace("float32", "flaot32"))
    as_new_process()
    assert ran(model, X)


def test_a_folder_that_cannot_be_made_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEGUE_CACHE_DIR", str(tmp_path / "file" / "inner"))
    assert ran(Model(), X)
    assert not ran(Model(), X)
    assert not cache.save_wisdom()
    assert cache.files() == []
    assert cache.clear() == 0


def test_list_and_clear(folder: Path) -> None:
    assert cache.files() == []
    assert ran(Model(), X)
    assert cache.save_wisdom()
    assert cache.load_wisdom()
    assert [p.parent for p in cache.files()] == [folder] * 2
    (folder / "other.txt").write_text("not ours")
    assert cache.clear() == 2
    assert [p.name for p in folder.iterdir()] == ["other.txt"]
    assert not cache.load_wisdom()
