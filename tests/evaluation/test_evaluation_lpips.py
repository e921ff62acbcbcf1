"""LPIPS against torchmetrics, with small files of the layout of the published weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from oracles import Data, LinearGaussian
from torch import Tensor
from torchmetrics.functional.image import lpips as peer
from weight_files import alexnet, write_alexnet

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.errors import Unavailable, UserError
from vaebench.evaluation.estimators.features import WEIGHTS
from vaebench.evaluation.estimators.lpips import ALEXNET, lpips, read_lpips

CPU = torch.device("cpu")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(WEIGHTS, str(tmp_path))
    return write_alexnet(tmp_path)


def _pairs(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(*shape, generator=generator), torch.rand(*shape, generator=generator)


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 64, 70), (1, 31, 40)])
@torch.no_grad()
def test_lpips_equals_that_of_torchmetrics(weights: Path, shape: tuple[int, ...]) -> None:
    """With the same backbone, which torchmetrics would take from torchvision, and its own linear weights.

    Random pairs, one pixel off, equal, and constant.
    """
    x, y = _pairs(5, *shape)
    y[1] = x[1]
    y[1, 0, 5, 5] = 1 - y[1, 0, 5, 5]
    y[2] = x[2]
    x[3], y[3] = 0, 1
    network, sha256 = read_lpips(shape, CPU)
    with patch.object(peer, "_get_tv_model_features", lambda *_: alexnet()):
        expected = peer._LPIPS(net="alex")(*(t.expand(-1, 3, -1, -1) for t in (x, y)), normalize=True).flatten()
    torch.testing.assert_close(lpips(network, x, y), expected.double(), rtol=1e-4, atol=1e-7)
    assert (expected > 0).tolist() == [True, True, False, True, True]
    assert lpips(network, x, x).abs().max() < 1e-7
    assert sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_without_weights_or_room_lpips_is_missing_for_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEIGHTS, raising=False)
    for shape in ((1, 28, 28), (3, 30, 40), (2, 64, 64)):
        with pytest.raises(Unavailable, match="at least 31 pixels across, and these are"):
            read_lpips(shape, CPU)
    with pytest.raises(Unavailable, match=f"set {WEIGHTS} to a folder that holds {ALEXNET}"):
        read_lpips((3, 32, 32), CPU)
    monkeypatch.setenv(WEIGHTS, str(tmp_path))
    for content in ({"another": torch.zeros(1)}, [1]):
        torch.save(content, tmp_path / ALEXNET)
        with pytest.raises(UserError, match="does not hold the weights of AlexNet; put"):
            read_lpips((3, 32, 32), CPU)
    (tmp_path / ALEXNET).write_bytes(b"nothing")
    with pytest.raises(UserError, match="does not hold the weights of AlexNet; put"):
        read_lpips((3, 32, 32), CPU)


def test_the_report_names_the_weights_or_the_reason(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = LinearGaussian((1, 44, 44), orthogonal=True)
    data = Data(model.images(4), DataSpec((1, 44, 44), "continuous"))
    plan = {"likelihood": None, "units": None, "collapse": None, "samples": None}
    report = vb.evaluate(model, data, measurements=plan)
    assert report.metrics["lpips"].value > 0
    assert hashlib.sha256(weights.read_bytes()).hexdigest()[:16] in report.metrics["lpips"].definition
    assert 0 <= report.metrics["ms_ssim_3"].value <= 1
    assert "176 pixels" in report.metrics["ms_ssim"].unavailable
    assert report.per_image["lpips"].shape == (4,)
    monkeypatch.delenv(WEIGHTS)
    missing = vb.evaluate(model, data, measurements=plan)
    assert WEIGHTS in missing.metrics["lpips"].unavailable
    assert missing.metrics["ssim"] == report.metrics["ssim"]
