"""Densities and surrogates of a reconstruction: the best variance, log-cosh, structural similarity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.signal
import scipy.stats
import torch
from helpers import CONTINUOUS, SPEC, Source, bits, noisy_step, small
from skimage.metrics import structural_similarity
from torch import Tensor
from torch.func import vmap

import vaebench as vb
from vaebench.core import DataSpec, Family
from vaebench.distributions.pixelwise import HyperbolicSecant
from vaebench.errors import UserError
from vaebench.functional.ssim import WEIGHTS, compared, most_scales, ms_ssim

DOUBLE = torch.float64


def _greys(n: int, shape: tuple[int, ...] = SPEC.shape, seed: int = 0) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


# Log-cosh -------------------------------------------------------------------------------------------------------------


def _secant(loc: float = 0.3, scale: float = 0.2, exponent: float = 1.0) -> HyperbolicSecant:
    return HyperbolicSecant(torch.tensor([loc], dtype=DOUBLE), torch.tensor(scale, dtype=DOUBLE), exponent)


def _density(x: float, p: HyperbolicSecant) -> float:
    return math.exp(float(p.log_prob(torch.tensor([x], dtype=DOUBLE))))


@pytest.mark.parametrize("exponent", [0.1, 0.5, 1.0, 3.0, 200.0])
@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_log_cosh_is_a_density_that_integrates_to_one(exponent: float, scale: float) -> None:
    p = _secant(0.3, scale, exponent)
    far = 0.3 + scale * max(50.0, 50.0 / exponent)
    total, _ = scipy.integrate.quad(_density, 0.3, far, (p,), points=[0.3 + scale], limit=500, epsabs=1e-11)
    assert 2 * total == pytest.approx(1.0, abs=1e-7)


def test_exponent_one_is_scipys_hyperbolic_secant() -> None:
    x = torch.linspace(-3, 3, 41, dtype=DOUBLE)[:, None]
    assert np.allclose(_secant().log_prob(x).numpy(), scipy.stats.hypsecant.logpdf(x[:, 0].numpy(), 0.3, 0.2))


def test_large_exponents_approach_a_gaussian_and_small_ones_a_laplace_density() -> None:
    x = torch.linspace(-1, 1, 21, dtype=DOUBLE)[:, None]
    gaussian = _secant(0.0, 0.5 * 1e6**0.5, 1e6).log_prob(x).numpy()
    assert np.allclose(gaussian, scipy.stats.norm.logpdf(x[:, 0].numpy(), 0, 0.5), atol=1e-5)
    laplace = _secant(0.0, 0.5e-6, 1e-6).log_prob(x).numpy()
    assert np.allclose(laplace, scipy.stats.laplace.logpdf(x[:, 0].numpy(), 0, 0.5), atol=1e-5)


def test_its_gradient_is_that_of_the_papers_loss() -> None:
    """Chen et al. 2019: (1/a) log cosh(a (x − μ)) is s = ν = 1/a."""
    a, x = 10.0, torch.linspace(-1, 2, 7, dtype=DOUBLE)
    loc = torch.full((7,), 0.4, dtype=DOUBLE, requires_grad=True)
    p = HyperbolicSecant(loc, torch.tensor(1 / a, dtype=DOUBLE), 1 / a)
    loss = (torch.cosh(a * (x - loc)).log() / a).sum()
    mine, theirs = (torch.autograd.grad(v, loc)[0] for v in (-p.log_prob(x), loss))
    assert torch.allclose(mine, theirs)


def test_log_cosh_is_finite_far_in_its_tails() -> None:
    """The naive logarithm of a cosh overflows at 89 scales in single precision."""
    p = HyperbolicSecant(torch.zeros(2, 1), torch.tensor(1e-3))
    value = p.log_prob(torch.tensor([[5.0], [-5.0]]))
    assert torch.allclose(value, torch.full((2,), -5e3 + math.log(2) - math.log(math.pi * 1e-3)))


@pytest.mark.parametrize("exponent", [0.05, 1.0, 8.0])
def test_log_cosh_samples_what_it_scores(exponent: float) -> None:
    torch.manual_seed(0)
    p = _secant(0.3, 0.2, exponent)
    sample = p.sample((4000,))[:, 0]
    assert torch.isfinite(sample).all()
    edges = np.quantile(sample.numpy(), [0.1, 0.3, 0.5, 0.7, 0.9])
    far = 0.2 * max(50.0, 50.0 / exponent)
    below = [scipy.integrate.quad(_density, 0.3 - far, e, (p,), points=[0.3], limit=500)[0] for e in edges]
    assert np.allclose(below, [0.1, 0.3, 0.5, 0.7, 0.9], atol=4 * (0.25 / 4000) ** 0.5)


def test_log_cosh_is_a_likelihood_of_continuous_images_and_of_no_others() -> None:
    named = {"class_path": "vaebench.likelihoods.LogCosh", "init_args": {"exponent": 0.5, "initial": 0.2}}
    model = small("vae", CONTINUOUS, likelihood=named)
    assert not model.surrogate
    with torch.no_grad():
        p = model.likelihood(torch.zeros(1, 1, 2, dtype=DOUBLE))
    assert (p.exponent, float(p.scale.flatten()[0])) == (0.5, pytest.approx(0.2))
    with pytest.raises(UserError, match="LogCosh is no likelihood for 'binary' images"):
        small("vae", SPEC, likelihood=named)
    with pytest.raises(UserError, match=r"LogCosh has exponent 0\.0: expected a positive one"):
        small("vae", CONTINUOUS, likelihood={**named, "init_args": {"exponent": 0.0}})


# Structural similarity ------------------------------------------------------------------------------------------------


def test_one_scale_is_scikit_images() -> None:
    x, y = _greys(3, (2, 20, 17)), _greys(3, (2, 20, 17), 1)
    settings: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [
        np.mean([structural_similarity(a, b, data_range=1.0, **settings) for a, b in zip(i, j, strict=True)])
        for i, j in zip(x.numpy(), (0.7 * x + 0.3 * y).numpy(), strict=True)
    ]
    assert np.allclose(ms_ssim(x, 0.7 * x + 0.3 * y, 1).numpy(), expected)


def _by_hand(x: np.ndarray, y: np.ndarray, scales: int) -> float:
    """MS-SSIM of one channel by scipy's two-dimensional convolutions."""
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(line, line) / line.sum() ** 2

    def blur(t: np.ndarray) -> np.ndarray:
        return scipy.signal.convolve2d(t, window, mode="valid")

    result, weights = 1.0, np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    for scale in range(scales):
        mx, my = blur(x), blur(y)
        vx, vy, vxy = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        term = (2 * vxy + 0.0009) / (vx + vy + 0.0009)
        if scale == scales - 1:
            term = term * (2 * mx * my + 0.0001) / (mx**2 + my**2 + 0.0001)
        result *= term.mean() ** weights[scale]
        x, y = (t[: len(t) // 2 * 2, : t.shape[1] // 2 * 2] for t in (x, y))
        x, y = ((t[::2, ::2] + t[1::2, ::2] + t[::2, 1::2] + t[1::2, 1::2]) / 4 for t in (x, y))
    return float(result)


@pytest.mark.parametrize(("size", "scales"), [((28, 28), 2), ((45, 51), 3), ((64, 64), 3), ((176, 180), 5)])
def test_several_scales_are_those_of_scipys_convolutions(size: tuple[int, int], scales: int) -> None:
    assert most_scales(*size) == scales
    x, noise = _greys(2, (3, *size)), _greys(2, (3, *size), 1)
    y = 0.8 * x + 0.2 * noise
    expected = [np.mean([_by_hand(x[i, c].numpy(), y[i, c].numpy(), scales) for c in range(3)]) for i in range(2)]
    assert np.allclose(ms_ssim(x, y, scales).numpy(), expected)


def test_similarity_is_one_for_equals_and_broadcasts() -> None:
    x, y = _greys(4, (1, 28, 28)), _greys(4, (1, 28, 28), 1)
    assert torch.allclose(ms_ssim(x, x, 2), torch.ones(4, dtype=DOUBLE))
    stacked = torch.stack([x, y])
    assert torch.allclose(ms_ssim(stacked, y, 2), torch.stack([ms_ssim(x, y, 2), torch.ones(4, dtype=DOUBLE)]))
    together = vmap(lambda a: ms_ssim(a, y, 2))(stacked)
    assert torch.allclose(together, ms_ssim(stacked, y, 2))


def test_a_negative_similarity_has_a_finite_gradient() -> None:
    """Peers' defect: a negative base to a fractional power is not a number, and rectified its slope is 0 × infinity."""
    x = _greys(2, (1, 28, 28))
    y = (1 - x).requires_grad_()
    assert float(compared(x, y)[1].detach().max()) < 0
    (gradient,) = torch.autograd.grad(ms_ssim(x, y, 2).sum(), y)
    assert torch.isfinite(gradient).all()


IMAGES = DataSpec((1, 28, 28), "binary", torch.full((1, 28, 28), 0.2), size=100)
SIMILARITY: dict[str, Any] = {"class_path": "vaebench.likelihoods.StructuralSimilarity"}


def test_structural_similarity_is_a_surrogate_that_config_must_accept() -> None:
    with pytest.raises(UserError, match=r"StructuralSimilarity is no likelihood .* \(it supports none\)"):
        small("vae", IMAGES, likelihood=SIMILARITY)
    model = small("vae", IMAGES, likelihood=SIMILARITY, surrogate=True)
    assert model.surrogate
    assert model.likelihood.started
    x = bits(3, IMAGES)
    z = torch.zeros(2, 3, 2, dtype=DOUBLE)
    with torch.no_grad():
        p = model.likelihood(z)
        assert torch.allclose(p.log_prob(x), -784 * (1 - ms_ssim(p.mean, x, 2)))
        assert p.mean.shape == (2, 3, 1, 28, 28)
    with pytest.raises(NotImplementedError):
        p.sample()


@pytest.mark.parametrize("size", [(8, 8), (10, 40)])
def test_images_smaller_than_the_window_are_refused(size: tuple[int, int]) -> None:
    spec = DataSpec((1, *size), "binary", torch.full((1, *size), 0.2), size=100)
    with pytest.raises(UserError, match=rf"images of {size[0]} × {size[1]} at 0 scales, not at any; take larger"):
        small("vae", spec, likelihood=SIMILARITY, surrogate=True)


def test_more_scales_than_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"28 × 28 at 2 scales, not at 5; lower likelihood\.scales"):
        small("vae", IMAGES, likelihood={**SIMILARITY, "init_args": {"scales": 5}}, surrogate=True)


@pytest.mark.parametrize("name", ["vae", "iwae", "beta_tc_vae", "jl_vae", "swae"])
def test_families_train_with_structural_similarity(name: str) -> None:
    model = small(name, IMAGES, likelihood=SIMILARITY, surrogate=True)
    x = bits(8, IMAGES)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    before = float(noisy_step(model, x, seed=0)["model"].detach())
    for step in range(15):
        optimizer.zero_grad()
        noisy_step(model, x, seed=step + 1)["model"].backward()
        optimizer.step()
    assert float(noisy_step(model, x, seed=0)["model"].detach()) < before


@pytest.mark.parametrize(
    ("kind", "spec"), [("LogCosh", CONTINUOUS), ("StructuralSimilarity", IMAGES)], ids=["log-cosh", "similarity"]
)
def test_the_decoded_image_starts_at_the_training_mean(kind: str, spec: DataSpec) -> None:
    model = small("vae", spec, likelihood={"class_path": f"vaebench.likelihoods.{kind}"}, surrogate=True)
    with torch.no_grad():
        model.likelihood.net.layers[-1].weight.zero_()
        mean = model.likelihood(torch.zeros(1, 2, dtype=DOUBLE)).mean[0]
    assert torch.allclose(mean, spec.mean.double(), atol=1e-6)


# The best variance ----------------------------------------------------------------------------------------------------


def _held(model: Family, sigma: float) -> None:
    model.likelihood.log_excess.fill_(math.log(sigma - model.likelihood.floor))


def test_objective_is_the_elbo_at_the_variance_that_maximises_it() -> None:
    model, x = small("sigma_vae"), _greys(12)

    def negative_elbo(sigma: float) -> float:
        torch.manual_seed(0)
        _held(model, sigma)
        with torch.no_grad():
            return -float(model.step(x, None, torch.tensor(0.0)).logs["elbo"])

    best = scipy.optimize.minimize_scalar(negative_elbo, bounds=(0.01, 2), method="bounded", options={"xatol": 1e-8})
    torch.manual_seed(0)
    step = model.step(x, None, torch.tensor(0.0))
    assert float(step.losses["model"].detach()) == pytest.approx(best.fun)
    assert float(step.logs["sigma"].detach()) == pytest.approx(best.x, rel=1e-4)


def test_the_variances_own_dependence_has_no_gradient() -> None:
    """At the best σ the loss is flat in σ: the same gradient with σ held there."""
    model, x = small("sigma_vae"), _greys(12)
    parameters = list(model.parameters())
    mine = torch.autograd.grad(noisy_step(model, x, seed=0)["model"], parameters)
    torch.manual_seed(0)
    _held(model, float(model.step(x, None, torch.tensor(0.0)).logs["sigma"].detach()))
    torch.manual_seed(0)
    held = torch.autograd.grad(-model.step(x, None, torch.tensor(0.0)).logs["elbo"], parameters)
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-8) for a, b in zip(mine, held, strict=True))


def test_the_logged_bound_is_that_of_the_density_that_is_evaluated() -> None:
    model, x = small("sigma_vae"), _greys(500)
    _held(model, 0.5)
    torch.manual_seed(0)
    with torch.no_grad():
        step = model.step(x, None, torch.tensor(0.0))
        torch.manual_seed(0)
        distortion = -float(model.draw(x).log_x.mean())
    assert float(step.logs["distortion"]) == pytest.approx(distortion)
    assert float(-step.losses["model"]) > float(step.logs["elbo"]), "the fitted one has seen these images"


def test_the_held_variance_is_a_moving_average_that_starts_at_the_first_batch() -> None:
    model, variances = small("sigma_vae", memory=0.9), []
    for t in range(3):
        torch.manual_seed(t)
        with torch.no_grad():
            step = model.step(_greys(6, seed=t) * (t + 1) / 3, None, torch.tensor(float(t), dtype=DOUBLE))
        variances.append(float(step.logs["sigma"]) ** 2)
        model.get_buffer("likelihood.log_excess").copy_(step.state["likelihood.log_excess"])
    expected = 0.9 * (0.9 * variances[0] + 0.1 * variances[1]) + 0.1 * variances[2]
    with torch.no_grad():
        scale = model.likelihood(torch.zeros(1, 1, 2, dtype=DOUBLE)).base_dist.scale
    assert torch.allclose(scale, torch.full_like(scale, expected**0.5))


def test_a_perfect_reconstruction_does_not_take_the_variance_below_its_floor() -> None:
    model = small("sigma_vae", memory=0.0)
    with torch.no_grad():
        for parameter in model.likelihood.net.parameters():
            parameter.zero_()
    x = torch.zeros(4, *SPEC.shape, dtype=DOUBLE)
    step = model.step(x, None, torch.tensor(0.0))
    gradients = torch.autograd.grad(step.losses["model"], list(model.parameters()), allow_unused=True)
    assert float(step.logs["sigma"].detach()) == pytest.approx(model.likelihood.floor)
    assert all(torch.isfinite(g).all() for g in gradients if g is not None)
    model.get_buffer("likelihood.log_excess").copy_(step.state["likelihood.log_excess"].detach())
    assert torch.isfinite(model.draw(x).log_w).all()


def test_sigma_vae_refuses_images_and_likelihoods_without_a_variance_to_set() -> None:
    with pytest.raises(UserError, match=r"SigmaVAE takes continuous images, and these are 'binary'; change"):
        vb.build("sigma_vae", Source(SPEC))
    for likelihood in (
        {"class_path": "vaebench.likelihoods.Gaussian"},
        {"class_path": "vaebench.likelihoods.LogCosh", "init_args": {"scale": "fixed"}},
    ):
        with pytest.raises(UserError, match=r"sets the scale of its likelihood itself; choose likelihoods\.Gaussian"):
            vb.build("sigma_vae", Source(CONTINUOUS), likelihood=likelihood)
    fixed = {"class_path": "vaebench.likelihoods.Gaussian", "init_args": {"scale": "fixed", "initial": 0.4}}
    assert vb.build("sigma_vae", Source(CONTINUOUS), likelihood=fixed).likelihood.scale == "fixed"
