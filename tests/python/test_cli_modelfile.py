"""Model files: loading, seeds, batches; and the examples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segue.modelfile import batch_of, load_with_inputs, with_batch

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

# File: input sizes, result sizes for one element of the batch.
SIZES = {
    "conv2d_scale_min": ((64, 64, 256, 256), (1, 1, 254, 254)),
    "conv2d_min_add_mul": ((128, 64, 128, 128), (1, 128, 126, 126)),
    "conv2d_min_tanh_tanh": ((128, 16, 256, 256), (1, 1, 254, 254)),
    "conv3d_min_softmax": ((128, 3, 24, 32, 32), (1, 24, 30, 30)),
}


@pytest.mark.parametrize("name", SIZES)
def test_examples(name: str) -> None:
    file = load_with_inputs(EXAMPLES / f"{name}.py")
    full, result = SIZES[name]
    assert file.namespace.batch_size == full[0]
    [x] = file.inputs(1)
    assert tuple(x.shape) == (1, *full[1:])
    assert file.namespace.batch_size == full[0]
    with torch.no_grad():
        assert tuple(file.build()(x).shape) == result


def test_every_example_is_tested() -> None:
    assert {p.stem for p in EXAMPLES.glob("*.py")} == set(SIZES)


def write(folder: Path, inputs: str) -> Path:
    path = folder / "model.py"
    path.write_text(
        "import torch\nfrom torch import nn\n\n\nclass Model(nn.Linear):\n    pass\n\n\n"
        f"def get_inputs():\n    return {inputs}\n\n\ndef get_init_inputs():\n    return [3, 2]\n"
    )
    return path


def test_seeds_repeat(tmp_path: Path) -> None:
    file = load_with_inputs(write(tmp_path, "[torch.rand(4, 3)]"))
    assert torch.equal(file.inputs(seed=5)[0], file.inputs(seed=5)[0])
    assert not torch.equal(file.inputs(seed=5)[0], file.inputs(seed=6)[0])
    weights = [file.build(1).get_parameter("weight") for _ in range(2)]
    assert torch.equal(*weights)
    assert not file.build().training


@pytest.mark.parametrize("batch", [1, 3, 4, 9])
def test_batch_without_a_constant(tmp_path: Path, batch: int) -> None:
    inputs = "[torch.rand(4, 3), torch.rand(4, 1, 2), torch.rand(5, 3), torch.rand(4), 4]"
    file = load_with_inputs(write(tmp_path, inputs))
    sizes = [tuple(x.shape) for x in file.inputs(batch)[:4]]
    assert sizes == [(batch, 3), (batch, 1, 2), (5, 3), (4,)]
    assert file.inputs(batch)[4] == 4


def test_batch_of_nothing() -> None:
    assert batch_of([1, torch.tensor(2.0), torch.rand(3)]) is None
    assert with_batch([torch.rand(2, 3)], 0)[0].shape == (0, 3)


def test_two_files_of_one_name(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    a = load_with_inputs(write(tmp_path / "a", "[torch.rand(1, 3)]"))
    b = load_with_inputs(write(tmp_path / "b", "[torch.rand(2, 3)]"))
    assert [len(f.inputs()[0]) for f in (a, b)] == [1, 2]
    assert a.model is not b.model
