"""The protocol `tokenizer`: fidelity, rate and latents of autoencoders of photographs, against independent oracles."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from oracles import Data, Parts
from PIL import Image
from scipy import linalg
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.data.folder import Folder
from vaebench.distributions import Delta, DiagonalNormal
from vaebench.distributions.codes import Categorical, PointMass
from vaebench.errors import UserError
from vaebench.evaluation.estimators import tokens

SHAPE = (3, 64, 64)
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee")  # in scikit-image's package


def crops(name: str, count: int, side: int = 64) -> Tensor:
    """Crops of a photograph, side by side: (count, 3, side, side), 256 levels in [0, 1]."""
    with Image.open(Path(skimage.__file__).parent / "data" / f"{name}.png") as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB"))).movedim(-1, 0)
    tiles = pixels.unfold(1, side, side).unfold(2, side, side).movedim(0, 2).flatten(0, 1)
    return tiles[:count].float() / 255


X = torch.cat([crops(name, 14) for name in PHOTOGRAPHS])
SPEC = DataSpec(SHAPE, "discrete256")


def kl_model(scale: float = 0.1) -> Parts:
    """z is the image at a quarter of its resolution, plus noise; the decoder repeats its values."""

    def posterior(x: Tensor) -> DiagonalNormal:
        mean = nn.functional.avg_pool2d(x, 4)
        return DiagonalNormal(mean, torch.full_like(mean, scale), 3)

    zeros = torch.zeros(3, 16, 16)
    return Parts(
        posterior,
        lambda: DiagonalNormal(zeros, zeros + 1, 3),
        lambda z: Delta(z.repeat_interleave(4, -1).repeat_interleave(4, -2), 3),
    )


def features() -> nn.Module:
    """Colours of the four quarters of an image: twelve features."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """`features` in a module of the user's own, in the working folder."""
    (tmp_path / "my_features.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())\n"
    )
    monkeypatch.chdir(tmp_path)
    return "my_features:build"


def test_reconstructions_are_judged_as_files_of_8_bits_hold_them() -> None:
    found = vb.evaluate(kl_model(), Data(X, SPEC), "tokenizer")
    small = nn.functional.avg_pool2d(X, 4)
    made = (small.repeat_interleave(4, -1).repeat_interleave(4, -2) * 255).round().to(torch.uint8).numpy()
    real = (X * 255).round().to(torch.uint8).numpy()
    psnr = [peak_signal_noise_ratio(a, b) for a, b in zip(real, made, strict=True)]
    assert found.metrics["psnr_8bit"].value == pytest.approx(np.mean(psnr), rel=1e-5)
    ssim = [
        structural_similarity(a, b, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                              data_range=255)
        for a, b in zip(real, made, strict=True)
    ]  # fmt: skip
    assert found.metrics["ssim_8bit"].value == pytest.approx(np.mean(ssim), rel=1e-5)
    low, high = found.tables["tokenizer"]["intervals"]["psnr_8bit"]
    se = float(np.std(psnr, ddof=1)) / math.sqrt(len(psnr))
    assert (high - low) / (2 * 1.96 * se) == pytest.approx(1, abs=0.15)
    assert low < np.mean(psnr) < high


def test_rfid_is_that_of_scipy_in_the_features_of_a_network_of_the_users_own(network: str) -> None:
    found = vb.evaluate(kl_model(), Data(X, SPEC), "tokenizer", measurements={"tokenizer": {"features": network}})
    small = nn.functional.avg_pool2d(X, 4)
    made = (small.repeat_interleave(4, -1).repeat_interleave(4, -2) * 255).round() / 255
    (a, b) = (features()(t).double().numpy() for t in (made, X))
    ca, cb = np.cov(a.T), np.cov(b.T)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca + cb - 2 * linalg.sqrtm(ca @ cb).real)
    assert found.metrics["rfid"].value == pytest.approx(expected, rel=1e-3, abs=1e-9)
    assert found.metrics["rfid"].se is not None


def test_all_that_rfid_depends_on_is_in_its_definition_and_the_record(network: str, tmp_path: Path) -> None:
    """Papers' rFID of the same weights differ by 0.5 to 2.2 because of these."""
    (tmp_path / "pngs").mkdir()
    for i, image in enumerate((X * 255).to(torch.uint8)):
        Image.fromarray(image.movedim(0, -1).numpy()).resize((80, 72)).save(tmp_path / "pngs" / f"{i}.png")
    data = Folder("pngs", crop="square", resize=64, colour="rgb", val=0.01, test=0.95)
    found = vb.evaluate(kl_model(), data, "tokenizer", measurements={"tokenizer": {"features": network}})
    text, reference = found.metrics["rfid"].definition, found.tables["tokenizer"]["reference"]
    levels = (data.images("test") * 255).round().to(torch.uint8)
    expected = hashlib.sha256(repr(tuple(levels.shape)).encode() + levels.numpy().tobytes()).hexdigest()
    assert reference == {"split": "test", "images": len(levels), "sha256": expected}
    for part in ("colour rgb, crop square, resized to 64 by the antialiased bicubic filter", "3 × 64 × 64",
                 "rounded to 256 levels", expected[:16], "my_features.build (SHA-256"):  # fmt: skip
        assert part in text
    hashes = found.protocol["measurements"]["tokenizer"]["sources"]
    assert hashes == {"my_features": hashlib.sha256(Path("my_features.py").read_bytes()).hexdigest()}


def test_the_rate_is_in_bits_a_pixel_and_the_latents_scale_that_of_their_samples() -> None:
    found = vb.evaluate(kl_model(0.5), Data(X, SPEC), "tokenizer").metrics
    mean = nn.functional.avg_pool2d(X, 4).double()
    nats = (0.5 * (mean.square() + 0.25 - 1 - 2 * math.log(0.5))).sum((1, 2, 3))
    assert found["bits_per_pixel"].value == pytest.approx(float(nats.mean()) / math.log(2) / 64**2, rel=1e-5)
    variance = float(mean.var(correction=0)) + 0.25
    assert found["latent_scale"].value == pytest.approx(variance**0.5, rel=0.01)
    assert found["latent_shift"].value == pytest.approx(float(mean.mean()), abs=0.01)
    assert found["rfid"].unavailable
    assert "VAEBENCH_WEIGHTS" in found["rfid"].unavailable
    assert "VAEBENCH_WEIGHTS" in (found["lpips_8bit"].unavailable or "")


def test_codes_cost_log_k_each_and_less_where_some_are_taken_more_often() -> None:
    """Half of the places hold code 0 and a quarter each codes 1 and 2, of four: 2 bits and 1.5 a place."""
    book, places = torch.eye(4)[None], 16
    z = book[0][torch.tensor([0, 0, 1, 2] * 4)].flatten()
    model = Parts(
        lambda x: PointMass(z.expand(len(x), -1), book, places),
        lambda: Categorical(torch.zeros(places, 4), book, places),
        lambda z: Delta(torch.full((*z.shape[:2], *SHAPE), 0.5), 3),
    )
    found = vb.evaluate(model, Data(X, SPEC), "tokenizer").metrics
    assert found["bits_per_pixel"].value == pytest.approx(2 * 16 / 64**2)
    assert found["bits_per_pixel_codes"].value == pytest.approx(1.5 * 16 / 64**2)
    assert found["code_usage"].value == pytest.approx(0.75)
    assert "no grid" in (found["latent_steep"].unavailable or "")


def test_a_spectrum_is_flat_for_noise_and_of_one_frequency_for_a_wave() -> None:
    noise = torch.randn(200, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    assert tokens.spectrum(noise).tolist() == pytest.approx([1] * 8, rel=0.05)
    share = tokens.steep_share(noise)
    steep = 1 - 9 * 9 / 256  # frequencies with |f| ≤ 1/4 are 9 of 16 on each axis
    assert share.value == pytest.approx(steep * 256 / 255, abs=4 * (share.se or 0))
    wave = torch.cos(2 * math.pi * 3 * torch.arange(16) / 16).expand(1, 1, 16, 16)
    power = tokens.spectrum(wave)
    assert int(power.argmax()) == 2
    assert float(power.sum() - power.max()) == pytest.approx(0, abs=1e-9)
    assert tokens.steep_share(wave).value == pytest.approx(0, abs=1e-9)


def test_effective_channels_count_independent_directions() -> None:
    z = torch.randn(500, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert tokens.effective_channels(z) == pytest.approx(4, abs=0.01)
    assert tokens.effective_channels(z[:, :1].expand(-1, 4, -1, -1)) == pytest.approx(1)


@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_standard_errors_of_scale_and_spectrum_are_those_of_many_sets(offset: float) -> None:
    """The spread of the estimates over 300 sets of 40 latents whose variances differ."""
    generator = torch.Generator().manual_seed(0)
    sets = torch.randn(300, 40, 1, 8, 8, generator=generator) * torch.rand(300, 40, 1, 1, 1, generator=generator)
    for estimate in (tokens.scale, tokens.steep_share):
        found = [estimate(z + offset) for z in sets]
        spread = float(np.std([one.value for one in found]))
        assert float(np.mean([one.se or 0 for one in found])) == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"reference": "val"}, "tokenizer.reference is 'val': expected test or train"),
    ({"features": "vgg"}, "unknown network of features 'vgg'"),
    ({"features": "my_features:nothing"}, "unknown class 'my_features.nothing'"),
])  # fmt: skip
@pytest.mark.usefixtures("network")
def test_a_setting_that_is_wrong_is_answered_with_a_sentence(settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        vb.evaluate(kl_model(), Data(X, SPEC), "tokenizer", measurements={"tokenizer": settings})
