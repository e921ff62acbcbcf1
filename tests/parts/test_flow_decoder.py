"""The flow decoder: its density, and the bound of uniform dequantisation that stands for log P(x|z)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers import bits, small
from oracles import Data
from torch import Tensor

from vaebench import log_likelihood
from vaebench.core import DataSpec
from vaebench.evaluation import evaluate
from vaebench.likelihoods.flow import BOUND, Flow

DOUBLE = torch.float64
LEVELS = DataSpec((1, 4, 4), "discrete2", torch.full((1, 4, 4), 0.5))
Z = torch.tensor([[0.4, -1.1]], dtype=DOUBLE)


def flow(measure: str, shape: tuple[int, int, int], seed: int = 0) -> Flow:
    torch.manual_seed(seed)
    made = Flow((2,), DataSpec(shape, measure, torch.full(shape, 0.5)), initial=0.3, width=16).double()
    for parameter in made.flow.parameters():
        parameter.data.mul_(3)  # far from the identity
    return made


def test_its_density_is_the_change_of_variables_by_autograd() -> None:
    model, x = flow("continuous", (1, 2, 3)), torch.rand(1, 2, 3, dtype=DOUBLE)
    loc, scale = model.location_scale(Z)
    transform = model.flow(Z[0]).transform

    def noise(y: Tensor) -> Tensor:
        return transform(((y.view(1, 2, 3) - loc[0]) / scale).flatten())

    jacobian = torch.autograd.functional.jacobian(noise, x.flatten())
    normal = -(noise(x.flatten()).square().sum() + 6 * math.log(2 * math.pi)) / 2
    torch.testing.assert_close(model(Z).log_prob(x)[0], normal + torch.linalg.slogdet(jacobian)[1])
    assert float((jacobian - jacobian.diagonal().diag()).abs().max()) > 0.01, "pixels are dependent"


@pytest.mark.parametrize("measure", ["discrete2", "discrete5"])
def test_the_exponential_of_the_bound_has_the_mass_of_the_bin_for_a_mean(measure: str) -> None:
    """With one value an image, by quadrature of the continuous density over each level's bin."""
    model, levels = flow(measure, (1, 1, 1)), DataSpec((1, 1, 1), measure).levels
    nodes, weights = np.polynomial.legendre.leggauss(60)
    with torch.no_grad():
        density = model(Z)
        density.levels = None
        torch.manual_seed(0)
        for j in range(levels):
            y = torch.from_numpy((j + (nodes + 1) / 2) / levels).reshape(-1, 1, 1, 1)
            mass = float((density.log_prob(y).exp() * torch.from_numpy(weights) / 2 / levels).sum())
            x = torch.full((1, 1, 1), j / (levels - 1), dtype=DOUBLE)
            scores = model(Z.expand(20_000, 2)).log_prob(x)
            found, error = float(scores.exp().mean()), float(scores.exp().std()) / 20_000**0.5
            assert found == pytest.approx(mass, abs=4 * error + 1e-9)
            assert float(scores.mean()) <= math.log(mass) + 4 * float(scores.std()) / 20_000**0.5


def test_each_sample_of_z_has_dequantisation_noise_of_its_own() -> None:
    """With one draw for all, an importance-weighted estimate would not tend to log P(x) but to its bound."""
    scores = flow("discrete2", (1, 2, 2))(Z.expand(50, 1, 2)).log_prob(torch.ones(1, 1, 2, 2, dtype=DOUBLE))
    assert scores.shape == (50, 1)
    assert len(scores.unique()) == 50


def test_a_report_says_that_the_figures_of_levels_are_bounds() -> None:
    part = {"class_path": "vaebench.likelihoods.flow.Flow", "init_args": {"width": 8}}
    report = evaluate(small("vae", LEVELS, likelihood=part), Data(bits(4), LEVELS), "likelihood", k=30, progress=False)
    for name in ("log_likelihood", "nll", "bits_per_dim", "elbo", "distortion"):
        assert report.metrics[name].definition.endswith(BOUND)
    assert any(BOUND in warning for warning in report.warnings)
    data = DataSpec((1, 4, 4), "continuous", torch.full((1, 4, 4), 0.5))
    model = small("vae", data, likelihood=part)
    exact = evaluate(model, Data(torch.rand(4, 1, 4, 4), data), "likelihood", k=30, progress=False)
    assert "dequantised" not in exact.metrics["elbo"].definition
    assert not any("in place of" in warning for warning in exact.warnings)


def test_the_bound_of_an_image_does_not_depend_on_the_images_beside_it() -> None:
    part = {"class_path": "vaebench.likelihoods.flow.Flow", "init_args": {"width": 8}}
    model, x = small("vae", LEVELS, likelihood=part), bits(5)
    whole = log_likelihood(model, x, 20)
    torch.testing.assert_close(log_likelihood(model, x[3:].flip(0), 20), whole[3:].flip(0))
