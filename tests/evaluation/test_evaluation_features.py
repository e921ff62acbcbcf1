"""Feature extractors: what is shipped is what was trained, and what is not there is missing for a stated reason."""

from __future__ import annotations

import hashlib
import re
import runpy
from pathlib import Path

import pytest
import torch
from data_layouts import REAL
from torch import Tensor, nn
from weight_files import write_inception

from vaebench.data.mnist import MNIST
from vaebench.errors import Unavailable, UserError
from vaebench.evaluation.estimators import features
from vaebench.evaluation.estimators.features import INCEPTION, MNIST28, WEIGHTS, Mnist28, inception, mnist28

CPU = torch.device("cpu")
DOCS = Path(__file__).parents[2] / "docs" / "features.md"


def _noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_the_shipped_extractor_is_the_one_that_is_documented() -> None:
    found = mnist28((1, 28, 28), CPU)
    assert found.sha256 == hashlib.sha256(MNIST28.read_bytes()).hexdigest()
    assert found.sha256 in DOCS.read_text()
    assert found.sha256[:16] in found.label
    assert MNIST28.stat().st_size < 200_000
    assert sum(p.numel() for p in Mnist28().parameters()) == 47_786


def test_features_are_64_numbers_an_image_whatever_the_batch_and_precision() -> None:
    found, x = mnist28((1, 28, 28), CPU), _noise(7, 1, 28, 28)
    whole = found(x.double())
    assert whole.shape == (7, 64)
    assert whole.dtype == torch.float64
    torch.testing.assert_close(torch.cat([found(image[None]) for image in x]), whole, rtol=1e-4, atol=1e-4)


def test_the_shipped_extractor_knows_the_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits of other writers, 8 × 8 and enlarged, of which chance names a tenth; and MNIST's where it is at hand."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.from_numpy(digits.images / 16).float()[:, None]
    x = nn.functional.pad(nn.functional.interpolate(x, (20, 20), mode="bilinear"), (4, 4, 4, 4))
    network = mnist28((1, 28, 28), CPU).network
    named = network.logits(x).argmax(1)  # type: ignore[attr-defined]
    assert (named == torch.from_numpy(digits.target)).float().mean() > 0.7
    if (REAL / "mnist").is_dir():
        monkeypatch.setenv("VAEBENCH_DATA", str(REAL))
        data = MNIST("binary")
        right = network.logits(data.images("test")).argmax(1) == data.labels("test")  # type: ignore[attr-defined]
        stated = re.search(r"binary images .* ([\d.]+) % test", DOCS.read_text())
        assert stated is not None
        assert 100 * float(right.float().mean()) == pytest.approx(float(stated[1]), abs=0.05)


def test_training_repeats_bit_for_bit_and_standardises(monkeypatch: pytest.MonkeyPatch) -> None:
    script = runpy.run_path(str(DOCS.parents[1] / "benchmarks" / "features.py"))
    monkeypatch.setitem(script["train"].__globals__, "EPOCHS", 1)
    x, y = _noise(300, 1, 28, 28), torch.arange(300) % 10
    first, second = script["train"](x, y).state_dict(), script["train"](x, y).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    network = Mnist28()
    network.load_state_dict(first)
    bits = (x < 0.5).float()
    both = network(torch.cat([x, bits])).detach()
    assert both.mean().abs() < 0.3
    assert 0.5 < both.var() < 2


def test_images_of_another_shape_are_refused_and_not_resized() -> None:
    for shape in ((1, 32, 32), (3, 28, 28), (1, 28, 20)):
        with pytest.raises(Unavailable, match=f"these are {shape[0]} × {shape[1]} × {shape[2]}"):
            mnist28(shape, CPU)


def test_another_file_under_the_same_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "mnist28.pt"
    monkeypatch.setattr(features, "MNIST28", changed)
    with pytest.raises(UserError, match=r"cannot be read .*; install vaebench again"):
        mnist28((1, 28, 28), CPU)
    changed.write_bytes(MNIST28.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match=r"has the SHA-256 .* was expected; install"):
        mnist28((1, 28, 28), CPU)


# Inception --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_inception_is_given_levels_of_three_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    monkeypatch.setenv(WEIGHTS, str(tmp_path))
    path = write_inception(tmp_path)
    x = _noise(6, channels, 9, 9)
    found = inception((channels, 9, 9), CPU)
    levels = (x * 255).round().double().expand(-1, 3, -1, -1).mean((2, 3))
    torch.testing.assert_close(found.features(x), torch.cat([levels, levels**2], 1), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(found.classes(x), levels.softmax(1), rtol=1e-3, atol=1e-5)
    assert found.features.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_without_its_weights_inception_is_missing_for_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEIGHTS, raising=False)
    with pytest.raises(Unavailable, match=f"set {WEIGHTS} to a folder that holds {re.escape(INCEPTION)}"):
        inception((3, 9, 9), CPU)
    monkeypatch.setenv(WEIGHTS, str(tmp_path))
    with pytest.raises(Unavailable, match="holds no"):
        inception((3, 9, 9), CPU)
    with pytest.raises(Unavailable, match="2 × 9 × 9"):
        inception((2, 9, 9), CPU)
    (tmp_path / INCEPTION).write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read as TorchScript; put"):
        inception((3, 9, 9), CPU)
