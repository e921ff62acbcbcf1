"""Reconstruction errors against scikit-image, and pictures against the images they show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import POSTERIORS, PRIORS, bits, small, tiny
from oracles import Channels, LinearGaussian, without
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from skimage.transform import downscale_local_mean
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from vaebench.errors import Unavailable
from vaebench.evaluation.conditions import evaluation_mode
from vaebench.evaluation.drawing.pictures import PAPER, reconstruction_grid, sample_grid
from vaebench.evaluation.estimators.reconstruction import code, image_ms_ssim, mse, psnr, reconstruct, ssim
from vaebench.functional.tiles import GAP, TILE

CPU = torch.device("cpu")


def _pairs(shape: tuple[int, ...], n: int = 5) -> tuple[Tensor, Tensor]:
    """Smooth images and noisy copies of them."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, shape[0], 4, 4, generator=generator, dtype=torch.float64)
    x = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear")
    return x, (x + 0.1 * torch.randn(n, *shape, generator=generator, dtype=torch.float64)).clamp(0, 1)


def test_a_code_lies_where_samples_lie() -> None:
    """Defect: the mean of a distribution on the sphere lies inside it, where no decoder was ever asked."""
    sphere = {"posterior": POSTERIORS["spherical.VonMisesFisher"], "prior": PRIORS["spherical.SphericalUniform"]}
    model = small("vae", latent=3, **{side: tiny(part) for side, part in sphere.items()})
    z, which = code(model, bits(4))
    assert which == "the posterior's centre"
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(4).double())
    mean = model.posterior(bits(4)).mean
    torch.testing.assert_close(z, mean / mean.norm(dim=-1, keepdim=True))
    assert float(mean.norm(dim=-1).detach().max()) < 0.999
    assert code(small("vae"), bits(4))[1] == "the posterior mean"


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 11, 11), (1, 28, 20), (3, 32, 32), (3, 13, 40)])
def test_errors_equal_those_of_scikit_image(shape: tuple[int, ...]) -> None:
    x, y = _pairs(shape)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    for i, (a, b) in enumerate(zip(x.numpy(), y.numpy(), strict=True)):
        expected = structural_similarity(a, b, channel_axis=0, **settings)
        assert float(ssim(x, y)[i]) == pytest.approx(expected, abs=1e-6)
        assert float(mse(x, y)[i]) == pytest.approx(mean_squared_error(a, b))
        assert float(psnr(x, y)[i]) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0))
    assert 0.1 < float(ssim(x, y).mean()) < 0.99


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("shape", [(1, 11, 17), (3, 13, 12)])
def test_degenerate_images_are_judged_as_scikit_image_does(shape: tuple[int, ...]) -> None:
    """Constant, one pixel off and equal images; scikit-image is given levels to 255, where 1 is the range here."""
    x, y = torch.full((4, *shape), 0.5).double(), torch.full((4, *shape), 0.5).double()
    y[1, 0, 5, 5] = 1
    x[2], y[2] = 0, 1
    x[3] = y[3] = _pairs(shape, n=1)[0][0]
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    for i, (a, b) in enumerate(zip((255 * x).numpy(), (255 * y).numpy(), strict=True)):
        expected = structural_similarity(a, b, channel_axis=0, **settings)
        assert float(ssim(x, y)[i]) == pytest.approx(expected, abs=1e-12)
        assert float(psnr(x, y)[i]) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=1e-9)
        assert float(mse(x, y)[i]) == pytest.approx(mean_squared_error(a, b) / 255**2, abs=1e-12)


def test_torchmetrics_similarity_counts_reflected_margins() -> None:
    """The reason why it is not used: its mean is over windows that leave the image, too."""
    x, y = _pairs((1, 28, 28))
    theirs = structural_similarity_index_measure(x, y, reduction="none", data_range=1.0)
    assert float((theirs - ssim(x, y)).abs().max()) > 1e-3
    _, whole = structural_similarity_index_measure(x, y, reduction="none", data_range=1.0, return_full_image=True)
    assert whole.shape == x.shape
    torch.testing.assert_close(whole[..., 5:-5, 5:-5].mean((1, 2, 3)), ssim(x, y))


def test_errors_do_not_depend_on_the_batch() -> None:
    x, y = _pairs((1, 12, 12), n=601)
    for error in (mse, psnr, ssim):
        torch.testing.assert_close(error(x, y)[600:], error(x[600:], y[600:]))


def _multiscale(x: np.ndarray, y: np.ndarray, exponents: list[float]) -> float:
    """MS-SSIM of (c, h, w) images of 255 levels from scikit-image's SSIM; a huge K1 leaves contrast and structure."""
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    product, x, y = 1.0, 255 * x, 255 * y
    for scale, exponent in enumerate(exponents):
        if scale:
            x, y = (t[:, : t.shape[1] // 2 * 2, : t.shape[2] // 2 * 2] for t in (x, y))
            x, y = (downscale_local_mean(t, (1, 2, 2)) for t in (x, y))
        alone = {"K1": 1e7} if scale < len(exponents) - 1 else {}
        product *= max(1e-6, structural_similarity(x, y, channel_axis=0, **settings, **alone)) ** exponent
    return product


@pytest.mark.parametrize("shape", [(1, 176, 176), (1, 181, 200), (3, 177, 179)])
def test_multiscale_similarity_is_composed_of_that_of_scikit_image(shape: tuple[int, ...]) -> None:
    """Of a noisy copy, a constant image one pixel off, and black and white."""
    x, y = _pairs(shape, n=3)
    x[1], y[1] = 0.5, 0.5
    y[1, 0, 80, 80] = 1
    x[2], y[2] = 0, 1
    exponents = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]
    for i in range(3):
        expected = _multiscale(x[i].numpy(), y[i].numpy(), exponents)
        assert float(image_ms_ssim(x, y)[i]) == pytest.approx(expected, abs=1e-6)
        renamed = _multiscale(x[i].numpy(), y[i].numpy(), (np.array(exponents[:3]) / sum(exponents[:3])).tolist())
        assert float(image_ms_ssim(x, y, 3)[i]) == pytest.approx(renamed, abs=1e-6)
    assert 0.05 < float(image_ms_ssim(x, y)[0]) < 0.99


def test_multiscale_similarity_with_itself_is_one_with_the_opposite_nought_and_with_one_scale_ssim() -> None:
    x, y = _pairs((3, 64, 64))
    torch.testing.assert_close(image_ms_ssim(x, x, 3), torch.ones(5).double())
    assert (image_ms_ssim(x, 1 - x, 3) < 1e-5).all(), "the structure is negative"
    torch.testing.assert_close(image_ms_ssim(x, y, 1), ssim(x, y))
    torch.testing.assert_close(image_ms_ssim(x, y, 3)[3:], image_ms_ssim(x[3:], y[3:], 3))


@pytest.mark.parametrize(("size", "scales"), [(175, 5), (43, 3)])
def test_small_images_have_no_multiscale_similarity(size: int, scales: int) -> None:
    """The window must fit at the coarsest scale: 11 · 2⁴ = 176 pixels, or 11 · 2² = 44 for three scales."""
    x, y = _pairs((1, size, size + 9), n=1)
    with pytest.raises(Unavailable, match=f"{size + 1} pixels .* {size} × {size + 9}"):
        image_ms_ssim(x, y, scales)
    assert image_ms_ssim(*_pairs((1, size + 1, size + 1), n=1), scales).isfinite().all()


def test_ssim_of_an_image_with_itself_is_one_and_small_images_have_none() -> None:
    x, _ = _pairs((1, 16, 16))
    torch.testing.assert_close(ssim(x, x), torch.ones(5).double())
    with pytest.raises(Unavailable, match="8 × 8"):
        ssim(x[..., :8, :8], x[..., :8, :8])


def test_a_reconstruction_is_the_mean_at_the_posterior_mean() -> None:
    model = LinearGaussian()
    x = model.images(7)
    with evaluation_mode(model, CPU):
        made = reconstruct(model, x)
        sampled = reconstruct(without(model, posterior="mean"), x)
        again = reconstruct(without(model, posterior="mean"), x.flip(0))
    expected = (model.exact_posterior(x).mean @ model.weight.T + model.mean).view_as(x)
    torch.testing.assert_close(made.images, expected)
    assert (made.code, sampled.code) == ("the posterior mean", "one sample of the posterior")
    assert (sampled.images - made.images).abs().min() > 0
    torch.testing.assert_close(again.images.flip(0), sampled.images)


def test_a_likelihood_without_a_mean_says_so() -> None:
    model = LinearGaussian()
    with evaluation_mode(model, CPU), pytest.raises(Unavailable, match="has no mean in closed form"):
        reconstruct(without(model, likelihood="mean"), model.images(2))


# Pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "zoom"), [((1, 8, 8), 7), ((1, 28, 28), 2), ((3, 32, 32), 2), ((1, 105, 105), 1)])
def test_the_grid_shows_originals_over_reconstructions(shape: tuple[int, ...], zoom: int) -> None:
    x, y = _pairs(shape, n=13)
    page = reconstruction_grid(x, y)
    tile = shape[1] * zoom
    assert page.dtype == np.uint8
    assert page.shape == (4 * (tile + GAP) + GAP, 10 * (tile + GAP) + GAP, 3), "10 + 3 images, each in two rows"
    assert abs(tile - TILE) < shape[1] + TILE

    def shown(row: int, column: int) -> np.ndarray:
        top, left = GAP + row * (tile + GAP), GAP + column * (tile + GAP)
        return page[top : top + tile, left : left + tile][::zoom, ::zoom]

    for row, column, image in ((0, 4, x[4]), (1, 4, y[4]), (2, 2, x[12]), (3, 2, y[12])):
        expected = (image.permute(1, 2, 0).expand(-1, -1, 3).numpy() * 255).round()
        assert np.abs(shown(row, column) - expected).max() <= 0.5 + 1e-4
    assert (shown(2, 5) == PAPER).all(), "no image, no ink"


def test_samples_are_means_of_the_likelihood_at_samples_of_the_prior() -> None:
    model = Channels([1] * 4, [0] * 4)
    with evaluation_mode(model, CPU):
        page = sample_grid(model)
    ink = page[GAP : GAP + 14, GAP : GAP + 56]
    assert (ink == 128).all(), "a decoder that ignores z gives one picture, half grey"


def test_samples_follow_the_random_state() -> None:
    model = small("vae", seed=3)
    with evaluation_mode(model, CPU):
        torch.manual_seed(5)
        first = sample_grid(model)
        torch.manual_seed(5)
        assert np.array_equal(sample_grid(model), first)
        assert not np.array_equal(sample_grid(model), first)
    assert reconstruction_grid(bits(3), bits(3)).shape[2] == 3
