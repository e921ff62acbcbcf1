"""The sparse decoder and its spike-and-slab lasso, against scipy, finite differences and the model's own definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from helpers import SPEC, Source, bits, noisy_step, small
from torch import Tensor

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.errors import UserError
from vaebench.functional.regularisers import spike_and_slab
from vaebench.networks.sparse import SparseMLP

DOUBLE = torch.float64
SLAB, SPIKE = torch.tensor(1.0, dtype=DOUBLE), torch.tensor(10.0, dtype=DOUBLE)


def _weights(rows: int = 6, columns: int = 3) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)


def test_spike_and_slab_is_scipys_mixture_of_two_laplace_densities() -> None:
    w, mixing = _weights(), torch.tensor([0.1, 0.5, 0.8], dtype=DOUBLE)
    found = spike_and_slab(w, mixing, SLAB, SPIKE)
    wide, narrow = (scipy.stats.laplace.pdf(w.numpy(), scale=scale) for scale in (1.0, 0.1))
    eta = mixing.numpy()
    density = eta * wide + (1 - eta) * narrow
    assert float(found.log_density) == pytest.approx(np.log(density).sum())
    assert np.allclose(found.inclusion.numpy(), eta * wide / density)


def test_its_gradient_is_the_em_steps() -> None:
    """−(p* λ₁ + (1 − p*) λ₀) sign w, though p* is not held."""
    w = _weights().requires_grad_()
    found = spike_and_slab(w, torch.full((3,), 0.4, dtype=DOUBLE), SLAB, SPIKE)
    (gradient,) = torch.autograd.grad(found.log_density, w)
    strength = found.inclusion * SLAB + (1 - found.inclusion) * SPIKE
    assert torch.allclose(gradient, (-strength * w.sign()).detach())


def test_inclusion_has_the_densities_normalising_constants() -> None:
    """Peers' defect: p* from exp(−λ|w|) alone calls a weight of zero undecided where the spike is ten times denser."""
    found = spike_and_slab(torch.zeros(1, 1, dtype=DOUBLE), torch.tensor([0.5], dtype=DOUBLE), SLAB, SPIKE)
    assert float(found.inclusion) == pytest.approx(1 / 11)


def test_an_output_sees_the_latents_through_its_row_of_the_mask_alone() -> None:
    torch.manual_seed(0)
    net = SparseMLP((3,), (1, 2, 2), width=5).double()
    z = torch.randn(2, 7, 3, dtype=DOUBLE)
    for d in range(4):
        h = z * net.mask[d]
        for layer in net.layers[:-1]:
            h = torch.tanh(h @ layer.weight + layer.bias)
        expected = h @ net.layers[-1].weight[d] + net.layers[-1].bias[d]
        assert torch.allclose(net(z).flatten(2)[..., d], expected)


def test_a_pixel_does_not_depend_on_a_latent_that_its_mask_hides() -> None:
    model = small("sparse_vae", latent=3)
    with torch.no_grad():
        model.likelihood.net.mask[5, 1] = 0
        z = torch.randn(1, 4, 3, dtype=DOUBLE)
        moved = z + torch.tensor([0.0, 2.0, 0.0], dtype=DOUBLE)
        change = (model.likelihood(moved).mean - model.likelihood(z).mean).abs().flatten(2).amax((0, 1))
    assert float(change[5]) == 0
    assert (change[torch.arange(16) != 5] > 0).all()


def test_loss_adds_the_masks_log_density_divided_by_the_data_sets_size() -> None:
    """Peers' defect: divided by the batch, so that a prior of one mask is counted once a batch."""
    for size, images in ((1000, 4), (1000, 8), (250, 8)):
        spec = DataSpec(SPEC.shape, "binary", SPEC.mean, size=size)
        model = small("sparse_vae", spec, penalty=3.0)
        torch.manual_seed(0)
        with torch.no_grad():
            step = model.step(bits(images), None, torch.tensor(0.0))
            mixing = torch.full((2,), 0.5, dtype=DOUBLE)
            prior = spike_and_slab(model.likelihood.net.mask, mixing, SLAB, SPIKE).log_density
        assert float(step.losses["model"] + step.logs["elbo"]) == pytest.approx(float(-3 * prior / size))


def test_the_mixing_share_is_the_mode_of_its_posterior() -> None:
    """The maximum over η of Σ_d p* log η + (1 − p*) log(1 − η) + (D − 1) log(1 − η), by scipy."""
    model = small("sparse_vae")
    with torch.no_grad():
        state = model.step(bits(4), None, torch.tensor(0.0)).state["mixing"]
        inclusion = spike_and_slab(model.likelihood.net.mask, model.mixing, SLAB, SPIKE).inclusion.numpy()
    d = len(inclusion)
    for j in range(2):
        share = inclusion[:, j].sum()
        found = scipy.optimize.minimize_scalar(
            lambda e, s=share: -(s * np.log(e) + (2 * d - 1 - s) * np.log1p(-e)),
            bounds=(1e-6, 1 - 1e-6),
            method="bounded",
        )
        assert float(state[j]) == pytest.approx(found.x, abs=1e-5)


def test_the_lasso_empties_the_mask_where_nothing_pays_for_it() -> None:
    """A heavy prior and images without structure: the shares fall and the mask's small weights shrink to the spike."""
    model, x = small("sparse_vae", penalty=2000.0), bits(64)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(300):
        torch.manual_seed(step)
        result = model.step(x, None, torch.tensor(float(step)))
        optimizer.zero_grad()
        result.losses["model"].backward()
        optimizer.step()
        model.mixing.copy_(result.state["mixing"].detach())
    assert float(result.logs["included"].detach()) < 0.1
    assert float(model.likelihood.net.mask.detach().abs().median()) < 0.05


def test_it_takes_every_measure_and_refuses_a_decoder_without_a_mask() -> None:
    for measure in ("binary", "discrete17", "continuous"):
        model = vb.build("sparse_vae", Source(DataSpec(SPEC.shape, measure, SPEC.mean, size=10)), latent=2)
        assert torch.isfinite(model.step(bits(3).float(), None, torch.tensor(0.0)).losses["model"])
    likelihood = {"class_path": "vaebench.likelihoods.Bernoulli"}
    with pytest.raises(
        UserError, match=r"decodes through a mask; set likelihood\.net to vaebench\.networks\.SparseMLP"
    ):
        small("sparse_vae", likelihood=likelihood)
    named = {
        **likelihood,
        "init_args": {"net": {"class_path": "vaebench.networks.SparseMLP", "init_args": {"width": 4}}},
    }
    assert small("sparse_vae", likelihood=named).likelihood.net.layers[0].weight.shape == (2, 4)
    with pytest.raises(UserError, match="needs the number of training images"):
        small("sparse_vae", DataSpec(SPEC.shape, "binary", SPEC.mean))


def test_a_sparse_decoder_serves_any_family() -> None:
    net = {"class_path": "vaebench.networks.SparseMLP", "init_args": {"width": 4}}
    model = small("iwae", likelihood={"class_path": "vaebench.likelihoods.Bernoulli", "init_args": {"net": net}})
    assert torch.isfinite(noisy_step(model, bits(4), seed=0)["model"])
