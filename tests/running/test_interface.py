"""The functions of the Python interface do what the commands do, and their results show as tables."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_records import write_fake
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

import vaebench as vb
from vaebench.data.digits import Digits
from vaebench.display.tables import frame
from vaebench.errors import UserError
from vaebench.evaluation import Report
from vaebench.records import read_records
from vaebench.training.models import read_checkpoint

SHORT = {"max_epochs": 1, "accelerator": "cpu", "limit_train_batches": 2}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebook")
    return vb.fit("vae", "digits", folder / "runs", trainer=SHORT, progress=False, latent=2, prior="vamp",
                  data_settings={"measure": "binary"})  # fmt: skip


@pytest.fixture(scope="module")
def results(checkpoint: Path) -> Path:
    folder = checkpoint.parents[2] / "results"
    vb.evaluate_checkpoint(checkpoint, "quick", folder, progress=False, k=10, limit=20)
    return folder


def test_a_training_is_the_run_of_the_command(checkpoint: Path) -> None:
    model = vb.load(checkpoint)
    assert (type(model).__name__, type(model.prior).__name__, model.data.measure) == ("VAE", "VampPrior", "binary")
    again = vb.fit("vae", "digits", checkpoint.parents[1], trainer=SHORT, latent=2, prior="vamp",
                   data_settings={"measure": "binary"})  # fmt: skip
    assert again == checkpoint


def test_an_array_is_trained_on_and_kept(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    path = vb.fit("vae", x, tmp_path, trainer=SHORT, progress=False, latent=2)
    assert vb.load(path).data.measure == "discrete256"
    with np.load(next(tmp_path.glob("given-*.npz"))) as kept:
        assert (kept["images"] == x).all()


class Pictures(Dataset[Any]):
    """Pictures of Pillow's with labels, as torchvision hands them over without a transform."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, at: int) -> Any:
        return Image.fromarray(LEVELS[at]), at % 3


LEVELS = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
PAIRS = TensorDataset(torch.from_numpy(LEVELS)[:, None], torch.arange(40) % 3)
UNIT = {"range": [0, 1]}


@pytest.mark.parametrize(
    ("images", "settings", "measure", "labelled"),
    [
        (torch.from_numpy(LEVELS), {}, "discrete256", False),
        (LEVELS.tolist(), {}, "discrete256", False),
        (LEVELS.astype(np.float32) / 255, UNIT, "discrete256", False),
        (LEVELS > 127, {}, "binary", False),
        (torch.from_numpy(LEVELS > 127).float(), {}, "binary", False),
        (PAIRS, {}, "discrete256", True),
        (DataLoader(PAIRS, batch_size=7), {}, "discrete256", True),
        (Pictures(), {}, "discrete256", True),
    ],
)
def test_images_of_any_kind_are_trained_on(
    images: Any, settings: dict[str, Any], measure: str, labelled: bool, tmp_path: Path
) -> None:
    """Defect: a Dataset became an array of one object, and bits were refused as black images of 256 levels."""
    path = vb.fit("vae", images, tmp_path, trainer=SHORT, progress=False, latent=2, data_settings=settings)
    assert vb.load(path).data.measure == measure
    assert read_checkpoint(path)["vaebench"]["data"]["sizes"] == {"train": 32, "val": 4, "test": 4}
    with np.load(next(tmp_path.glob("given-*.npz"))) as file:
        assert ("labels" in file) == labelled


def test_a_data_module_is_trained_on_with_its_settings(tmp_path: Path) -> None:
    path = vb.fit("vae", Digits("binary", batch_size=100), tmp_path, trainer=SHORT, progress=False, latent=2)
    config = read_checkpoint(path)["vaebench"]["config"]["data"]
    assert config["init_args"] == {"measure": "binary", "batch_size": 100}


def test_what_holds_no_images_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="images are a int: expected a tensor, an array, a Dataset"):
        vb.fit("vae", 3, tmp_path)


def test_a_mistake_in_python_is_a_sentence() -> None:
    with pytest.raises(UserError, match="unknown key 'latnt'; did you mean latent"):
        vb.fit("vae", "digits", latnt=3)


def test_boards_records_and_comparisons_show_as_tables(results: Path) -> None:
    boards = vb.leaderboard(results)
    assert "log-likelihood" in str(boards)
    assert boards._repr_html_().count("<table>") == len(boards) == 1
    records = read_records(results)
    assert f"{records[0].value('elbo'):.6g}" in records._repr_html_()
    assert "E_q[z]" in records[0]._repr_html_()
    with pytest.raises(UserError):
        vb.compare("vae", "none", results)


def test_names_of_packages_are_functions_whatever_was_imported() -> None:
    import vaebench.leaderboard.boards
    import vaebench.sweep.driver  # noqa: F401

    with pytest.raises(UserError, match="nowhere"):
        vb.leaderboard("nowhere")
    with pytest.raises(UserError, match="nowhere"):
        vb.sweep("nowhere")
    with pytest.raises(UserError, match="nowhere"):
        vb.bench("nowhere")


class Frame:
    """What of pandas.DataFrame is used."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows, self.index = rows, ""

    def set_index(self, name: str) -> Frame:
        self.index = name
        return self


def test_figures_become_data_frames_where_pandas_is(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=Frame))
    records = read_records(results)
    every = records.frame()
    assert every.index == "id"
    assert every.rows[0]["elbo"] == records[0].value("elbo")
    assert vb.leaderboard(results).frame().rows == every.rows
    one = records[0].frame()
    assert {row["metric"]: row.get("value") for row in one.rows}["elbo"] == records[0].value("elbo")
    assert Report().frame().rows == []
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="needs pandas, which is not installed"):
        frame([], "a")


def test_boards_comparisons_and_pictures_become_figures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for variant, mean in (("better", 1.0), ("worse", 0.0)):
        for seed in range(3):
            write_fake(tmp_path / f"{variant}-{seed}", rng, mean, variant=variant, seed=seed)
    boards = vb.leaderboard(tmp_path)
    drawn = boards.figures()[0].data[0]
    rows = boards[0].rows
    assert list(drawn.y) == [row.variant for row in rows] == ["better", "worse"]
    assert list(drawn.x) == [0.0, rows[1].gap.difference]
    assert all(figure.layout.title.text for figure in vb.compare("better", "worse", tmp_path).figures())
    report = Report(pictures={"samples": np.zeros((4, 5, 3), np.uint8)})
    assert np.shape(report.figure("samples").data[0].z) == (4, 5, 3)
    with pytest.raises(UserError, match="unknown picture 'sample'; did you mean samples"):
        report.figure("sample")
