"""Divergences between the code and the prior, and deterministic encoders, against closed forms, numpy and POT."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import ot
import pytest
import torch
from helpers import SPEC, VARIANTS, Source, bits, noisy_step, small
from sklearn.metrics.pairwise import rbf_kernel
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.distributions import Delta, divergence
from vaebench.errors import Unavailable
from vaebench.functional.jacobians import frobenius
from vaebench.functional.regularisers import directions, mmd, moments, similarity, sliced_wasserstein
from vaebench.leaderboard.boards import boards
from vaebench.records import read_records
from vaebench.running.bench import bench
from vaebench.running.benchmark import read_benchmark

DETERMINISTIC = ["rae_gp", "rae", "swae", "wae_gan", "wae_mmd"]
every_deterministic = pytest.mark.parametrize("name", DETERMINISTIC)


def _codes(m: int, n: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


# Maximum mean discrepancy -------------------------------------------------------------------------------------------


def test_rbf_is_scikit_learns_with_twice_the_latents_for_a_bandwidth() -> None:
    a, b = _codes(7, 3, 0), _codes(5, 3, 1)
    expected = (rbf_kernel(a, b, gamma=1 / 6) + rbf_kernel(a, b, gamma=1 / 30)) / 2
    assert np.allclose(similarity(a, b, "rbf", (1.0, 5.0)).numpy(), expected)


def test_imq_is_the_mixture_of_rbfs_that_it_is_defined_to_be() -> None:
    """C/(C + d²) = ∫ e^{-s} e^{-s d²/C} ds: by Gauss–Laguerre quadrature over bandwidths."""
    a, b = _codes(4, 2, 0), _codes(4, 2, 1)
    node, weight = np.polynomial.laguerre.laggauss(60)
    mixture = sum(w * rbf_kernel(a, b, gamma=s / 4) for s, w in zip(node, weight, strict=True))
    assert np.allclose(similarity(a, b, "imq").numpy(), mixture, atol=1e-6)


@pytest.mark.parametrize("kernel", ["rbf", "imq"])
def test_mmd_is_the_papers_double_sums(kernel: Any) -> None:
    a, b = _codes(6, 3, 0), _codes(6, 3, 1)
    k = lambda s, t: similarity(s, t, kernel, (0.5, 2.0)).numpy()  # noqa: E731
    within = sum(k(s, s)[i, j] for s in (a, b) for i in range(6) for j in range(6) if i != j) / 30
    assert float(mmd(a, b, kernel, (0.5, 2.0))) == pytest.approx(within - 2 * k(a, b).mean())


def test_mmd_between_gaussians_has_its_closed_form_without_bias() -> None:
    """E k(x, y) for x − y ~ N(m, s² I) and k = exp(−d²/C) is (1 + 2 s²/C)^{-n/2} exp(−m²/(C + 2 s²))."""
    n, c, shift, scale = 2, 4.0, 0.7, 0.5

    def expected(mean: float, variance: float) -> float:
        return (1 + 2 * variance / c) ** (-n / 2) * math.exp(-n * mean**2 / (c + 2 * variance))

    exact = expected(0, 2 * scale**2) + expected(0, 2) - 2 * expected(shift, 1 + scale**2)
    found = torch.stack([
        mmd(scale * _codes(20, n, 2 * s) + shift, _codes(20, n, 2 * s + 1), "rbf") for s in range(2000)
    ])  # fmt: skip
    assert float(found.mean()) == pytest.approx(exact, abs=4 * float(found.std()) / 2000**0.5)
    same = torch.stack([mmd(_codes(20, n, 2 * s), _codes(20, n, 2 * s + 1), "rbf") for s in range(2000)])
    assert float(same.mean()) == pytest.approx(0, abs=4 * float(same.std()) / 2000**0.5), "zero where they are equal"


@pytest.mark.parametrize(
    ("alpha", "penalty", "rate", "discrepancy"), [(1, 10, 0, 10), (0, 3, 1, 2), (0.5, 1, 0.5, 0.5)]
)
def test_info_vae_weighs_rate_and_discrepancy_as_the_paper(
    alpha: float, penalty: float, rate: float, discrepancy: float
) -> None:
    """Loss = distortion + (1 − α) rate + (α + λ − 1) MMD²."""
    model, x = small("info_vae", alpha=alpha, penalty=penalty), bits(16)
    torch.manual_seed(0)
    with torch.no_grad():
        step = model.step(x, None, torch.tensor(0.0))
    logs = {name: float(value) for name, value in step.logs.items()}
    expected = logs["distortion"] + rate * logs["rate"] + discrepancy * logs["mmd"]
    assert float(step.losses["model"]) == pytest.approx(expected)


# Sliced Wasserstein -------------------------------------------------------------------------------------------------


def test_sliced_wasserstein_is_pots() -> None:
    a, b, theta = _codes(50, 4, 0), _codes(50, 4, 1, shift=0.3), directions(7, _codes(1, 4, 2))
    expected = ot.sliced_wasserstein_distance(a.numpy(), b.numpy(), projections=theta.numpy().T, p=2)
    assert float(sliced_wasserstein(a, b, theta)) == pytest.approx(float(expected) ** 2)


def test_one_slice_is_the_optimal_transport_of_the_projections() -> None:
    """Sorting solves the assignment: against POT's linear programme on the same squared costs."""
    a, b, theta = _codes(30, 3, 0), _codes(30, 3, 1, shift=-0.5), directions(1, _codes(1, 3, 2))
    u, v = (a @ theta.T).numpy(), (b @ theta.T).numpy()
    assert float(sliced_wasserstein(a, b, theta)) == pytest.approx(ot.emd2([], [], ot.dist(u, v)))


def test_directions_are_uniform_on_the_sphere() -> None:
    torch.manual_seed(0)
    theta = directions(40_000, torch.zeros(1, 3, dtype=torch.float64))
    assert torch.allclose(theta.norm(dim=1), torch.ones(40_000, dtype=torch.float64))
    error = (3 * theta[:, 2].var() / 40_000) ** 0.5
    assert (theta.mean(0)).abs().max() < 4 * error
    assert ((theta.T @ theta / 40_000) - torch.eye(3) / 3).abs().max() < 0.01


# Moments ------------------------------------------------------------------------------------------------------------


def test_moments_share_the_optimum_of_the_kl_and_its_curvature_in_the_scale() -> None:
    mean, scale = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    assert float(moments(mean, scale)) == 0
    assert float(moments(mean + 0.3, scale - 0.2)) == pytest.approx(0.3**2 + 0.2**2)
    prior = Normal(torch.zeros(1, 1, dtype=torch.float64), 1.0)
    for step in (0.01, -0.01):  # KL(σ) = (σ − 1)² + O((σ − 1)³), KL(μ) = μ²/2
        kl = float(kl_divergence(Normal(mean, scale + step), prior))
        assert kl == pytest.approx(float(moments(mean, scale + step)), rel=0.01)
        assert float(kl_divergence(Normal(mean + step, scale), prior)) == pytest.approx(step**2 / 2)


def test_moment_objective_is_no_bound_and_the_logged_bound_is_the_true_one() -> None:
    """With the encoder's noise gone the penalty stays small, and the objective exceeds the exact log p(x)."""
    model, x = small("moment_vae", latent=1), bits(5)
    with torch.no_grad():
        model.posterior.net.layers[-1].bias[1] = -8.0  # σ ≈ e⁻⁸
        grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None, None].expand(-1, len(x), 1)
        joint = model.likelihood(grid).log_prob(x) + model.prior().log_prob(grid)
        exact = (torch.logsumexp(joint, 0) + math.log(16 / 4000)).mean()
        torch.manual_seed(0)
        step = model.step(x, None, torch.tensor(0.0))
        rate = model.posterior(x).base_dist
        kl = kl_divergence(Normal(rate.loc, rate.scale), Normal(torch.zeros_like(rate.loc), 1.0)).sum(-1).mean()
    assert float(step.logs["elbo"]) == pytest.approx(float(-step.logs["distortion"] - kl))
    assert float(step.logs["elbo"]) < float(exact)
    assert -float(step.losses["model"]) > float(step.logs["elbo"]) + 5


# Deterministic encoders ---------------------------------------------------------------------------------------------


def test_delta_samples_its_point_and_has_no_density() -> None:
    point = torch.randn(5, 3)
    q = Delta(point)
    assert (q.batch_shape, q.event_shape) == ((5,), (3,))
    assert torch.equal(q.rsample((2,)), point.expand(2, 5, 3))
    assert torch.equal(q.mean, point)
    with pytest.raises(Unavailable, match=r"deterministic: q.* has no density"):
        q.log_prob(point)
    with pytest.raises(Unavailable, match=r"deterministic: q.* has no density"):
        divergence(q, Independent(Normal(torch.zeros(3), 1.0), 1), point[None])


def test_decoder_gradient_is_the_jacobians_frobenius_norm_in_the_mean() -> None:
    """Central differences of the decoded means by the code; the estimate's mean over directions is their square sum."""
    model = small("rae_gp", latent=3)
    decode = lambda z: model.likelihood(z).mean  # noqa: E731
    z, step = _codes(4, 3, 0)[None], 1e-5
    with torch.no_grad():
        moves = [decode(z + step * e) - decode(z - step * e) for e in torch.eye(3, dtype=torch.float64)]
        exact = sum((move / (2 * step)).square().flatten(2).sum(-1) for move in moves)
    torch.manual_seed(0)
    found = frobenius(decode, z.expand(4000, 4, 3), 1).detach()
    assert found.shape == (4000, 4)
    assert ((found.mean(0) - exact).abs() < 4 * found.std(0) / 4000**0.5 + 1e-6).all()


def test_gradient_penalty_is_the_decoders_alone() -> None:
    """Peers' defect: the gradient of the reconstruction by the image, which runs through the encoder."""
    x = bits(6)
    one, two = small("rae_gp", beta=0.0, penalty=1.0), small("rae_gp", beta=0.0, penalty=1.0)
    with torch.no_grad():
        two.posterior.net.layers[0].weight *= 3
    codes = one.posterior(x).mean
    assert not torch.allclose(codes, two.posterior(x).mean)
    torch.manual_seed(0)
    first = frobenius(lambda z: one.likelihood(z).mean, codes[None], 1)
    torch.manual_seed(0)
    second = frobenius(lambda z: two.likelihood(z).mean, codes[None], 1)
    assert torch.allclose(first, second)
    torch.manual_seed(0)
    with torch.no_grad():
        logged = one.step(x, None, torch.tensor(0.0)).logs["decoder_gradient"]
    assert float(logged) == pytest.approx(float(first.mean().detach()) / 2)


def test_rae_weighs_codes_and_decoder_as_the_paper() -> None:
    model, x = small("rae", beta=0.3, penalty=0.02), bits(6)
    with torch.no_grad():
        loss = noisy_step(model, x, seed=0)["model"]
        z = model.posterior(x).mean
        distortion = -model.likelihood(z[None]).log_prob(x).mean()
        weights = sum(float((p**2).sum()) for p in model.likelihood.parameters())
    expected = float(distortion) + 0.3 / 2 * float((z**2).sum(1).mean()) + 0.02 * weights
    assert float(loss) == pytest.approx(expected)


def test_critic_learns_to_call_the_prior_real_and_codes_not_and_the_encoder_to_fool_it() -> None:
    """The critic's loss is a cross-entropy, the model's −log D of its codes, which falls where they look like p(z)."""
    model, x = small("wae_gan", penalty=3.0), bits(8)
    losses = noisy_step(model, x, seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        z = model.posterior(x).rsample((1,))
        real, fake = (model.critic(codes).sigmoid() for codes in (model.prior().rsample((8,)), z[0]))
        distortion = -model.likelihood(z).log_prob(x).mean()
    cross_entropy = -(real.log().mean() + (1 - fake).log().mean()) / 2
    assert float(losses["critic"].detach()) == pytest.approx(float(cross_entropy))
    assert float(losses["model"].detach()) == pytest.approx(float(distortion - 3 * fake.log().mean()))


@pytest.mark.parametrize("name", ["swae", "wae_gan", "wae_mmd"])
def test_wasserstein_autoencoders_take_a_stochastic_encoder(name: str) -> None:
    model = small(name, posterior={"class_path": "vaebench.posteriors.DiagonalGaussian"})
    loss = sum(noisy_step(model, bits(8), seed=0).values())
    assert torch.isfinite(loss)
    assert model.draw(bits(3)).log_w.isfinite().all(), "which has a bound"


@every_deterministic
def test_a_deterministic_family_takes_every_measure(name: str) -> None:
    for measure in ("binary", "discrete17", "continuous"):
        spec = DataSpec(SPEC.shape, measure, SPEC.mean, size=100)
        family, variant = VARIANTS.get(name, (name, {}))
        model = vb.build(family, Source(spec), latent=2, **variant)
        loss = sum(model.step(bits(5).float(), None, torch.tensor(0.0)).losses.values())
        assert torch.isfinite(loss)


def test_without_a_density_training_evaluation_and_leaderboard_say_why(tmp_path: Path) -> None:
    """A benchmark of two deterministic families and a VAE, end to end on digits."""
    configs = Path(__file__).parents[2] / "configs"
    plan = tmp_path / "plan.yaml"
    plan.write_text(f"""
benchmark: divergences
protocol: {{k: 10, seed: 0}}
configs: [{configs}/data/digits.yaml]
overrides: {{trainer.max_epochs: 2, model.latent: 4, trainer.accelerator: cpu}}
runs:
  rae_gp: {{configs: [{configs}/family/rae_gp.yaml]}}
  wae_gan: {{configs: [{configs}/family/wae_gan.yaml]}}
  vae: {{configs: [{configs}/family/vae.yaml]}}
""")
    done = list(bench(read_benchmark(plan), tmp_path / "results", tmp_path / "work", progress=False))
    assert len(done) == 3
    records = {record.variant: record for record in read_records(tmp_path / "results")}
    for name in ("rae_gp", "wae_gan"):
        record = records[name]
        assert record.selection == f"last weights, step {record.curves['val/log_x']['step'][-1]} of 22"
        assert set(record.curves) >= {"val/log_x", "train/distortion"}
        assert "val/elbo" not in record.curves
        for metric in ("log_likelihood", "nll", "bits_per_dim", "elbo", "rate"):
            assert record.metrics[metric]["value"] is None
            assert "deterministic" in record.metrics[metric]["unavailable"], metric
        assert record.metrics["distortion"]["value"] > 0
        assert record.metrics["active_units"]["value"] is not None
        assert record.cost["step_flops"] > 0
    (board,) = boards(records.values())
    assert [row.variant for row in board.rows] == ["vae", "rae_gp", "wae_gan"]
    assert [row.provisional for row in board.rows] == [True, False, False], "of one seed; the others have no score"
    assert [row.provisional for row in boards(records.values(), "distortion")[0].rows] == [True] * 3
