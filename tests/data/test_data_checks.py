"""Arrays that are no levels are refused wherever they enter a data module, and never cast in silence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import vaebench as vb
from vaebench.cli import main
from vaebench.data.base import ImageData, Split, carve
from vaebench.data.digits import Digits
from vaebench.data.shapes import draw_shapes
from vaebench.errors import UserError

SIZES = {"train": -1, "val": 2, "test": 2}
GREY = np.arange(10 * 1 * 4 * 4).reshape(10, 1, 4, 4)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (GREY / GREY.max(), "values between whole numbers, from 0 to 1, .* make them black"),
        (GREY.astype(np.float32) - 0.5, "values from -0.5"),
        (GREY.astype(np.int16) + 200, "int16 .* from 200 to 359"),
        (GREY.astype(np.int16) - 1, "from -1 to 158"),
        (np.full((10, 1, 4, 4), np.nan), "from nan to nan"),
        (np.full((10, 1, 4, 4), np.inf), "from inf to inf"),
        (GREY[:, 0], r"shape \(10, 4, 4\).* channels first"),
        (GREY.astype(complex), "type complex128"),
        (GREY.astype(object), "type object"),
    ],
)
def test_carve_refuses_what_a_cast_would_change(images: NDArray[Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        carve(images, None, **SIZES)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64, np.float32, np.float64])
def test_carve_takes_levels_of_any_type_as_they_are(kind: type) -> None:
    splits = carve(GREY.astype(kind), np.arange(10.0), **SIZES)
    assert np.array_equal(torch.cat([split.images for split in splits.values()]).numpy(), GREY)
    assert torch.cat([split.labels for split in splits.values()]).tolist() == list(range(10))


@pytest.mark.parametrize("labels", [np.arange(10) + 0.5, np.zeros((10, 2)), np.arange(9), np.array(["a"] * 10)])
def test_carve_refuses_labels_that_are_no_whole_numbers(labels: NDArray[Any]) -> None:
    with pytest.raises(UserError, match="one whole number an image"):
        carve(GREY, labels, **SIZES)


def test_carve_refuses_sizes_beyond_the_images() -> None:
    with pytest.raises(UserError, match="10 images are cut into splits"):
        carve(GREY, None, train=9, test=2)


class Own(ImageData):
    """A user's data module, which returns whatever it was given."""

    levels = 256
    measures = ("binary", "discrete256")

    def __init__(self, splits: Any) -> None:
        super().__init__("discrete256")
        self.given = splits

    def raw(self) -> Mapping[str, Split]:
        return self.given


def splits(**changes: Any) -> dict[str, Split]:
    return {name: split._replace(**changes) for name, split in carve(GREY, np.arange(10), **SIZES).items()}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (splits(images=torch.rand(10, 1, 4, 4)), "train images are torch.float32"),
        (splits(images=torch.zeros(10, 1, 4, 4, dtype=torch.int16)), "train images are torch.int16"),
        (splits(images=GREY.astype(np.uint8)), "train images are ndarray"),
        (splits(images=torch.zeros(10, 4, 4, dtype=torch.uint8)), r"shape \(10, 4, 4\)"),
        (splits(images=torch.zeros(0, 1, 4, 4, dtype=torch.uint8)), "are none"),
        (splits(images=torch.ones(10, 1, 4, 4, dtype=torch.uint8), labels=None), "no pixel above 1"),
        (splits(labels=torch.rand(10)), "labels of type torch.float32"),
        (splits(labels=torch.zeros(10, 2, dtype=torch.int64)), r"labels .* shape \(10, 2\)"),
        ({"train": splits()["train"]}, "no split 'val'"),
    ],
)
def test_a_module_of_ones_own_is_refused_what_carve_is(given: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        _ = Own(given).spec


def test_more_levels_than_were_declared_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Digits, "levels", 16)
    monkeypatch.setattr(Digits, "measures", ("discrete16",))
    with pytest.raises(UserError, match="level 16, where 16 levels end at 15"):
        _ = Digits("discrete16").spec


def test_an_image_is_found_in_its_source_by_its_index() -> None:
    from sklearn.datasets import load_digits

    data, source = Digits(), torch.from_numpy(load_digits().images)
    for split in ("train", "val", "test"):
        assert torch.equal(source[data.index(split)][:, None], data._split(split).images.double())
    assert sorted(torch.cat([data.index(split) for split in ("train", "val", "test")]).tolist()) == list(range(1797))


def test_drawn_shapes_are_levels() -> None:
    assert carve(draw_shapes(3, 1, 1, 1, 1), None, all=-1)["all"].images.max() == 1


def test_images_that_are_trained_on_and_tested_on_are_counted() -> None:
    """Defect: nothing said so, and a model that remembers scored best."""
    images = np.concatenate([GREY[:8], GREY[[1, 9]], GREY[[3, 1]]])  # train: 0 … 7; val: 1, 9; test: 3, 1
    data = Own(carve(images, None, **SIZES))
    rest = "favour a model that remembers; take them out of one of the two splits"
    assert data.warnings() == [
        f"2 of 2 test images of Own are trained on too: figures on them {rest}",
        f"1 of 2 test images of Own are validated on too: figures on them {rest}",
        f"1 of 2 val images of Own are trained on too: figures on them {rest}",
    ]
    assert not Own(splits()).warnings()


def test_a_record_and_the_terminal_warn_of_repeated_images(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Digits.raw
    monkeypatch.setattr(Digits, "raw", lambda self: {**own(self), "test": own(self)["train"]})
    said = r"1,297 of 1,297 test images of digits are trained on too"
    args = ["--data=digits", "--model=vae", "--model.latent=2", "--trainer.max_steps=2", f"--out={tmp_path}"]
    with pytest.warns(UserWarning, match=said):
        assert main(["fit", *args]) == 0
    (checkpoint,) = tmp_path.rglob("model.ckpt")
    measure = ["--protocol=quick", "--k=2", "--limit=4", f"--results={tmp_path}/results"]
    assert main(["evaluate", str(checkpoint), *measure]) == 0
    (record,) = vb.read_records(tmp_path / "results")
    assert re.match(said, record.warnings[0])
    assert "test images of digits are trained on too" in capsys.readouterr().out
