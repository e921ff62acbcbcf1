"""Independence: the split of the divergence, permuted codes and covariances, against enumeration and numpy."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from helpers import SPEC, Source, bits, noisy_step, small
from scipy.special import logsumexp
from scipy.stats import norm
from torch import Tensor

import vaebench as vb
from vaebench.core import DataSpec, Family
from vaebench.distributions import DiagonalNormal
from vaebench.errors import UserError
from vaebench.functional.regularisers import covariance, decompose, discrimination, log_shares, off_identity, permuted

N, LATENT = 4, 2
MEANS = torch.tensor([[-1.5, 0.3], [0.2, 1.0], [0.4, -0.7], [2.0, 0.1]], dtype=torch.float64)
SCALES = torch.tensor([[0.5, 0.9], [0.3, 0.6], [1.1, 0.4], [0.7, 0.8]], dtype=torch.float64)
Q = DiagonalNormal(MEANS, SCALES)


def _split(z: Tensor, shares: Tensor, q: Any = Q) -> Any:
    """The decomposition of samples z (b, n), one of each image of q."""
    log_p = norm.logpdf(z.numpy()).sum(-1)
    return decompose(q.base_dist.log_prob(z[:, None]), torch.from_numpy(log_p), shares)


def _full() -> Tensor:
    return log_shares(N, N, "stratified", MEANS)


def _nodes(count: int = 20) -> tuple[list[Tensor], Tensor]:
    """Samples of every posterior at the nodes of a Gauss–Hermite rule in two dimensions, and their weights."""
    node, weight = np.polynomial.hermite_e.hermegauss(count)
    weight = weight / weight.sum()
    points = [MEANS + SCALES * torch.tensor([a, b]) for a in node for b in node]
    return points, torch.tensor([a * b for a in weight for b in weight])


def _on_a_grid() -> tuple[float, float, float]:
    """The three parts by integration over a fine grid, with scipy's densities: MI, TC and dimension-wise KL."""
    axis = np.linspace(-8, 9, 1201)
    cell = axis[1] - axis[0]
    single = norm.pdf(axis[:, None, None], MEANS.numpy(), SCALES.numpy())  # (grid, N, 2)
    joint = np.einsum("an,bn->nab", single[:, :, 0], single[:, :, 1])  # q(z|x_n)
    q, marginals = joint.mean(0), [single[:, :, j].mean(1) for j in range(2)]
    product = np.outer(*marginals)

    def kl(a: Any, b: Any, area: float) -> float:
        return float((a * np.log(np.maximum(a, 1e-300) / np.maximum(b, 1e-300))).sum() * area)

    information = np.mean([kl(joint[n], q, cell**2) for n in range(N)])
    dimensions = sum(kl(m, norm.pdf(axis), cell) for m in marginals)
    return float(information), kl(q, product, cell**2), dimensions


def test_parts_are_those_of_the_exact_aggregate_and_sum_to_the_kl() -> None:
    """A batch that is the whole data set: expectations of the samples by quadrature against integrals over a grid."""
    points, weights = _nodes()
    parts = torch.stack([torch.stack(_split(z, _full())).mean(1) for z in points])  # (nodes, 3)
    means = (weights[:, None] * parts).sum(0)
    exact = 0.5 * (MEANS**2 + SCALES**2 - 1 - 2 * SCALES.log()).sum(1).mean()
    assert float(means.sum()) == pytest.approx(float(exact), abs=1e-8)
    for found, expected in zip(means.tolist(), _on_a_grid(), strict=True):
        assert found == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
def test_parts_sum_to_the_log_ratio_whatever_the_weights(sampling: Any) -> None:
    z = Q.rsample()
    ratio = Q.log_prob(z).numpy() - norm.logpdf(z.numpy()).sum(-1)
    total = sum(_split(z, log_shares(N, 977, sampling, MEANS)))
    assert np.allclose(total.numpy(), ratio)


def test_total_correlation_of_gaussian_codes_has_its_closed_form() -> None:
    """Means with correlation ρ and noise σ²: TC = −½ log det of the aggregate's correlation matrix."""
    generator = torch.Generator().manual_seed(0)
    rho, sigma, n = 0.8, 0.6, 2500
    root = torch.linalg.cholesky(torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64))
    means = torch.randn(n, 2, generator=generator, dtype=torch.float64) @ root.T
    q = DiagonalNormal(means, torch.full_like(means, sigma))
    z = means + sigma * torch.randn(n, 2, generator=generator, dtype=torch.float64)
    found = _split(z, log_shares(n, n, "stratified", means), q).correlation
    exact = -0.5 * math.log(1 - (rho / (1 + sigma**2)) ** 2)
    assert float(found.mean()) == pytest.approx(exact, abs=4 * float(found.std()) / n**0.5)


def test_stratified_weights_are_unbiased_for_the_aggregate() -> None:
    """Every batch of 3 of the 4 images that holds the sample's own: the mean estimate is q(z), to machine precision."""
    z, own = torch.tensor([0.3, 0.2], dtype=torch.float64), 1
    densities = Q.log_prob(z).exp()  # (N,): q(z|x_n)
    shares = log_shares(3, N, "stratified", z).exp()
    batches = [(own, *rest) for rest in combinations([n for n in range(N) if n != own], 2)]
    estimates = [(shares[0] * densities[list(batch)]).sum() for batch in batches]
    assert float(sum(estimates)) / len(estimates) == pytest.approx(float(densities.mean()), rel=1e-12)


def test_weighted_estimate_follows_the_papers_formula() -> None:
    """log q(z_i) ≈ log Σ_j q(z_i|x_j) − log(N M) and the same for every latent by itself, term by term with scipy."""
    z, size = Q.rsample(), 1000
    pairs = norm.logpdf(z.numpy()[:, None], MEANS.numpy(), SCALES.numpy())  # (i, j, latent)
    joint = logsumexp(pairs.sum(-1), axis=1) - np.log(size * N)
    product = (logsumexp(pairs, axis=1) - np.log(size * N)).sum(-1)
    found = _split(z, log_shares(N, size, "weighted", MEANS))
    assert np.allclose(found.correlation.numpy(), joint - product)
    assert np.allclose(found.information.numpy(), pairs.diagonal().sum(0) - joint)


def _logs(model: Family, x: Tensor) -> dict[str, Tensor]:
    """What a step logs, under the noise of seed 0."""
    torch.manual_seed(0)
    with torch.no_grad():
        return dict(model.step(x, None, torch.tensor(0.0)).logs)


# Peers' defects -----------------------------------------------------------------------------------------------------


def test_a_samples_own_image_weighs_on_the_diagonal() -> None:
    """Peers' defect: the matrix filled with a stride that hits the first column instead of the diagonal."""
    shares = log_shares(5, 100, "stratified", MEANS).exp()
    assert torch.allclose(shares.diagonal(), torch.full((5,), 1 / 100, dtype=torch.float64))
    off = shares[~torch.eye(5, dtype=torch.bool)]
    assert torch.allclose(off, torch.full((20,), 99 / 400, dtype=torch.float64))
    assert torch.allclose(shares.sum(1), torch.ones(5, dtype=torch.float64))


def test_log_weights_count_once_in_the_joint() -> None:
    """Peers' defect: weights added to every latent before the sum count once a latent in log q(z)."""
    z, size = Q.rsample(), 1000
    one = _split(z, log_shares(N, size, "weighted", MEANS))
    ten = _split(z, log_shares(N, 10 * size, "weighted", MEANS))
    more = math.log(10)
    assert torch.allclose(ten.information - one.information, torch.full((N,), more, dtype=torch.float64))
    assert torch.allclose(ten.correlation - one.correlation, torch.full((N,), (LATENT - 1) * more, dtype=torch.float64))
    assert torch.allclose(ten.dimensions - one.dimensions, torch.full((N,), -LATENT * more, dtype=torch.float64))


def test_latents_are_permuted_across_the_batch_each_by_itself() -> None:
    """Peers' defect: permuting the latents within a sample, which keeps the total correlation's samples wrong."""
    torch.manual_seed(0)
    z = torch.arange(300.0).view(100, 3)
    moved = permuted(z)
    for j in range(3):
        assert torch.equal(moved[:, j].sort().values, z[:, j]), "each latent keeps its own values"
    rows = (moved // 3).long()
    assert all((rows[:, i] != rows[:, j]).sum() > 90 for i, j in combinations(range(3), 2)), "and goes its own way"


def test_every_permutation_is_as_likely() -> None:
    torch.manual_seed(0)
    draws = torch.stack([permuted(torch.arange(3.0)[:, None])[:, 0] for _ in range(6000)])
    counts = (draws @ torch.tensor([9.0, 3.0, 1.0])).unique(return_counts=True)[1]
    assert len(counts) == 6
    assert (counts - 1000).abs().max() < 5 * (6000 * 5 / 36) ** 0.5


def test_covariance_is_numpys_over_the_batch() -> None:
    """Peers' defect: centred over latents instead of images, or without 1/B."""
    z = torch.randn(50, 3, dtype=torch.float64) @ torch.randn(3, 3, dtype=torch.float64) + 5
    assert np.allclose(covariance(z).numpy(), np.cov(z.numpy().T, bias=True))
    assert torch.allclose(covariance(z.repeat(4, 1)), covariance(z)), "the batch's size does not scale it"


def test_penalty_of_a_covariance_term_by_term() -> None:
    c = np.array([[1.5, 0.3], [0.3, 0.2]])
    found = off_identity(torch.from_numpy(c), torch.tensor(2.0), torch.tensor(3.0))
    assert float(found) == pytest.approx(2 * (0.3**2 + 0.3**2) + 3 * (0.5**2 + 0.8**2))
    assert float(off_identity(torch.eye(4), torch.tensor(2.0), torch.tensor(3.0))) == 0


@pytest.mark.parametrize(("name", "noise"), [("dip_vae", 0.0), ("dip_vae_ii", 1.0)])
def test_dip_penalises_the_covariance_of_its_kind(name: str, noise: float) -> None:
    """I: of the posterior means; II: of z under the aggregate, which adds the mean variance."""
    model, x = small(name, off_diagonal=2.0, diagonal=3.0), bits(40)
    base = model.posterior(x).base_dist
    c = np.cov(base.loc.detach().numpy().T, bias=True) + noise * np.diag((base.scale**2).detach().mean(0).numpy())
    expected = 2 * (c[0, 1] ** 2 + c[1, 0] ** 2) + 3 * ((c[0, 0] - 1) ** 2 + (c[1, 1] - 1) ** 2)
    assert float(_logs(model, x)["penalty"]) == pytest.approx(float(expected))


# FactorVAE's critic -------------------------------------------------------------------------------------------------


def test_the_best_critic_estimates_the_total_correlation() -> None:
    """Cross-entropy's minimiser on samples of two densities is their log ratio: Gaussian codes with known TC."""
    rho, n = 0.9, 4000
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, n, generator=generator, dtype=torch.float64)
    z = torch.stack([a, rho * a + (1 - rho**2) ** 0.5 * b], 1)
    torch.manual_seed(0)
    other = permuted(z)

    def features(z: Tensor) -> Tensor:  # the log ratio of two Gaussians is a quadratic form
        return torch.stack([torch.ones(n, dtype=z.dtype), z[:, 0] ** 2, z[:, 1] ** 2, z[:, 0] * z[:, 1]], 1)

    weight = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = discrimination(features(z) @ weight, features(other) @ weight)
        value.backward()
        return value

    assert float(discrimination(torch.zeros(3), torch.zeros(3))) == pytest.approx(math.log(2))
    optimizer.step(loss)
    found = float((features(z) @ weight).mean().detach())
    assert found == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.08)


def _stepped(name: str, x: Tensor) -> tuple[Family, dict[str, list[Tensor]]]:
    """One step of training, with each group's gradient recorded where its optimiser would act."""
    model = small(name)
    model.configure_optimizers()
    seen: dict[str, list[Tensor]] = {}

    class Recorder:
        def __init__(self, group: str) -> None:
            self.group = group

        def step(self) -> None:
            seen[self.group] = [p.grad.clone() for p in model.members(self.group)]

        def zero_grad(self) -> None:
            for parameter in model.members(self.group):
                parameter.grad = None

    model._optimizers = [Recorder(group) for group in model.groups()]  # type: ignore[misc]
    torch.manual_seed(1)
    model._learn(model.step(x, None, torch.tensor(0.0)), torch.tensor(0.0))
    return model, seen


@pytest.mark.parametrize("name", ["factor_vae", "wae_gan"])
def test_a_critics_gradient_does_not_reach_the_encoder(name: str) -> None:
    """Peers' defect: one backward over both losses. Neither does the model's loss move the critic."""
    x = bits(9)
    model, seen = _stepped(name, x)
    for group, gradients in seen.items():
        own = torch.autograd.grad(noisy_step(model, x, seed=1)[group], model.members(group))
        assert all(torch.allclose(a, b) for a, b in zip(gradients, own, strict=True))
    other = torch.autograd.grad(noisy_step(model, x, seed=1)["critic"], list(model.posterior.parameters()))
    assert any(float(g.abs().sum()) > 0 for g in other), "the test can tell: the critic's loss depends on the encoder"


def test_critic_learns_to_call_codes_real_and_permuted_ones_not() -> None:
    """Peers' defect: labels the wrong way round make the encoder raise the total correlation."""
    model, x = small("factor_vae"), bits(7)
    losses = noisy_step(model, x, seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        z = model.posterior(x).rsample((1,))
        real, fake = model.critic(z[0, :4]).sigmoid(), model.critic(permuted(z[0, 3:])).sigmoid()
        bound = (model.likelihood(z).log_prob(x) - _kl(model, x)).mean()
    cross_entropy = -(real.log().mean() + (1 - fake).log().mean()) / 2
    correlation = (real / (1 - real)).log().mean()
    assert float(losses["critic"].detach()) == pytest.approx(float(cross_entropy))
    assert float(losses["model"].detach()) == pytest.approx(float(model.gamma * correlation - bound))


def _kl(model: Family, x: Tensor) -> Tensor:
    base = model.posterior(x).base_dist
    return 0.5 * (base.loc**2 + base.scale**2 - 1 - 2 * base.scale.log()).sum(-1)


@pytest.mark.parametrize("name", ["factor_vae", "beta_tc_vae", "dip_vae", "dip_vae_ii", "info_vae", "wae_mmd"])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_last_batch_of_few_images_gives_a_finite_loss(name: str, batch: int) -> None:
    """The last batch of an epoch has what is left, perhaps one image: no mean over nothing."""
    model, x = small(name), bits(batch)
    for group, loss in noisy_step(model, x, seed=0).items():
        gradients = torch.autograd.grad(loss, model.members(group), retain_graph=True)
        assert torch.isfinite(loss)
        assert all(torch.isfinite(g).all() for g in gradients)


# Construction -------------------------------------------------------------------------------------------------------


def test_stratified_sampling_is_neutral_too() -> None:
    model, x = small("beta_tc_vae", alpha=1.0, beta=1.0, gamma=1.0, sampling="stratified"), bits(8)
    loss, logs = noisy_step(model, x, seed=0)["model"], _logs(model, x)
    assert float(loss.detach()) == pytest.approx(-float(logs["elbo"]))
    parts = logs["information"] + logs["total_correlation"] + logs["dimension_kl"]
    assert float(parts) == pytest.approx(float(logs["rate"]))


def test_beta_tc_needs_the_number_of_images() -> None:
    with pytest.raises(UserError, match="needs the number of training images"):
        vb.build("beta_tc_vae", Source(DataSpec(SPEC.shape, "binary", SPEC.mean)))


@pytest.mark.parametrize(
    "name", ["beta_tc_vae", "factor_vae", "dip_vae", "dip_vae_ii", "info_vae", "moment_vae", "vae"]
)
def test_a_deterministic_encoder_is_refused_where_a_density_is_needed(name: str) -> None:
    with pytest.raises(UserError, match="needs the density of q"):
        small(name, posterior={"class_path": "vaebench.posteriors.Delta"})
