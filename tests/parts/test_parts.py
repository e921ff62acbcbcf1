"""Distributions, networks, schedules and objectives against independent oracles."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torch.func import vmap

from vaebench.core import DataSpec
from vaebench.distributions import Bernoulli, DiagonalNormal, DiscretisedLogistic, Normal, divergence
from vaebench.errors import UserError, unknown
from vaebench.functional.objectives import elbo, importance_weighted
from vaebench.likelihoods import Bernoulli as BernoulliLikelihood
from vaebench.likelihoods import DiscretisedLogistic as LogisticLikelihood
from vaebench.likelihoods import Gaussian
from vaebench.networks import MLP, Conv, Linear, ResNet, tanh
from vaebench.networks.gated import GatedMLP
from vaebench.networks.grid import ConvGrid
from vaebench.posteriors import DiagonalGaussian
from vaebench.schedules import Constant
from vaebench.schedules import Linear as Warmup

DOUBLE = torch.float64


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("scale", [1e-3, 0.05, 3.0])
@pytest.mark.parametrize("loc", [-2.0, 0.0, 0.31, 1.0, 5.0])
def test_discretised_logistic_sums_to_one_over_all_levels(levels: int, scale: float, loc: float) -> None:
    values = torch.arange(levels, dtype=DOUBLE).reshape(-1, 1) / (levels - 1)
    p = DiscretisedLogistic(torch.full((levels, 1), loc, dtype=DOUBLE), torch.tensor(scale, dtype=DOUBLE), levels)
    assert float(p.log_prob(values).exp().sum()) == pytest.approx(1.0, abs=1e-12)


def test_discretised_logistic_is_a_difference_of_scipys_distribution_functions() -> None:
    values, loc, scale = torch.arange(256, dtype=DOUBLE) / 255, 0.4, 0.07
    p = DiscretisedLogistic(torch.full((256, 1), loc, dtype=DOUBLE), torch.tensor(scale, dtype=DOUBLE), 256)
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
    expected = np.diff(scipy.stats.logistic.cdf(edges, loc, scale))
    assert np.allclose(p.log_prob(values[:, None]).exp().numpy(), expected, rtol=1e-9)


def test_discretised_logistic_is_finite_far_in_its_tails() -> None:
    """The naive difference of two sigmoids is zero there, and its logarithm minus infinity."""
    p = DiscretisedLogistic(torch.tensor([[-3.0], [4.0]]), torch.tensor(0.01), 256)
    value = p.log_prob(torch.tensor([[0.5], [0.5]]))
    assert torch.isfinite(value).all()
    assert value[0] == pytest.approx(-(3.5 - 0.5 / 255) / 0.01 + math.log1p(-math.exp(-1 / 255 / 0.01)), rel=1e-4)


def test_discretised_logistic_samples_what_it_scores() -> None:
    torch.manual_seed(0)
    p = DiscretisedLogistic(torch.tensor([0.4]), torch.tensor(0.2), 5)
    counts = np.bincount((p.sample((20_000,)) * 4).round().long().flatten().numpy(), minlength=5)
    probabilities = torch.stack([p.log_prob(torch.tensor([j / 4])) for j in range(5)]).exp().double().numpy()
    assert scipy.stats.chisquare(counts, 20_000 * probabilities / probabilities.sum()).pvalue > 1e-3


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("shape", [(3, 1, 4, 784), (7, 50), (2, 3, 1), (1, 2, 30)])
def test_bernoulli_is_the_binary_cross_entropy_with_its_constants(shape: tuple[int, ...], grad: bool) -> None:
    torch.manual_seed(0)
    logits = (torch.randn(shape, dtype=DOUBLE) * 8).requires_grad_(grad)
    x = (torch.rand(shape[1:]) < 0.5).to(DOUBLE)
    with torch.set_grad_enabled(grad):
        value = Bernoulli(logits).log_prob(x)
    expected = -F.binary_cross_entropy_with_logits(logits, x.expand(shape), reduction="none").sum(-1)
    assert torch.allclose(value, expected, rtol=1e-10)
    if grad:
        mine, theirs = (torch.autograd.grad(v.sum(), logits)[0] for v in (value, expected))
        assert torch.allclose(mine, theirs, atol=1e-12)


@pytest.mark.parametrize("extreme", [0.0, 40.0, 200.0, 1e4])
def test_bernoulli_in_single_precision_stays_exact_for_large_logits(extreme: float) -> None:
    logits = torch.linspace(-extreme, extreme, 785)[:784].reshape(1, 784)
    x = (torch.arange(784) % 3 == 0).float().reshape(1, 784)
    exact = -F.binary_cross_entropy_with_logits(logits.double(), x.double(), reduction="sum")
    with torch.no_grad():
        assert float(Bernoulli(logits).log_prob(x)) == pytest.approx(float(exact), rel=1e-6)


def test_normal_samples_under_vmap_as_torchs_does_not() -> None:
    loc = torch.arange(3.0)
    samples = vmap(lambda m: Normal(m, torch.ones(())).rsample((1000,)), randomness="different")(loc)
    assert torch.allclose(samples.mean(1), loc, atol=0.2)
    assert not torch.allclose(samples[0], samples[1] - 1)
    with pytest.raises(RuntimeError):
        vmap(lambda m: torch.distributions.Normal(m, torch.ones(())).rsample(), randomness="different")(loc)


def test_the_normal_density_and_its_gradient_are_torch_s() -> None:
    loc, scale, x = (torch.randn(5, 3, dtype=DOUBLE).requires_grad_() for _ in range(3))
    found, expected = (kind(loc, scale.exp()).log_prob(x) for kind in (Normal, torch.distributions.Normal))
    torch.testing.assert_close(found, expected)
    for a, b in zip(*(torch.autograd.grad(d.sum(), (loc, scale, x)) for d in (found, expected)), strict=True):
        torch.testing.assert_close(a, b)


def test_the_fast_tanh_is_tanh() -> None:
    x = torch.linspace(-20, 20, 4001)
    assert float((tanh(x) - torch.tanh(x)).abs().max()) < 2e-7
    torch.testing.assert_close(tanh(x.double()), torch.tanh(x.double()), rtol=0, atol=4e-16)
    assert float((tanh(x.bfloat16()) - torch.tanh(x.bfloat16())).abs().max()) <= 2**-8
    torch.autograd.gradcheck(tanh, torch.linspace(-3, 3, 11, dtype=DOUBLE, requires_grad=True))


def test_divergence_in_closed_form_equals_its_estimate() -> None:
    torch.manual_seed(0)
    q = DiagonalNormal(torch.randn(4, 3, dtype=DOUBLE), torch.rand(4, 3, dtype=DOUBLE) + 0.5)
    p = DiagonalNormal(torch.zeros(3, dtype=DOUBLE), torch.ones(3, dtype=DOUBLE))
    z = q.rsample((200_000,))
    closed = divergence(q, p, z)
    loc, var = q.base_dist.loc, q.base_dist.scale**2
    assert torch.allclose(closed, 0.5 * (loc**2 + var - 1 - var.log()).sum(-1))
    assert torch.allclose(closed, (q.log_prob(z) - p.log_prob(z)).mean(0), atol=0.05)


def test_divergence_without_a_closed_form_is_the_samples_mean() -> None:
    torch.manual_seed(0)
    q = DiagonalNormal(torch.randn(4, 1, dtype=DOUBLE), torch.ones(4, 1, dtype=DOUBLE))
    two = torch.distributions.Normal(torch.tensor([[-1.0], [1.0]], dtype=DOUBLE), torch.ones(2, 1, dtype=DOUBLE))
    weights = torch.distributions.Categorical(torch.ones(2, dtype=DOUBLE))
    p = torch.distributions.MixtureSameFamily(weights, torch.distributions.Independent(two, 1))
    z = q.rsample((50,))
    densities = scipy.stats.norm.pdf(z.numpy()[..., 0, None], [-1, 1]).mean(-1)
    assert np.allclose(divergence(q, p, z).numpy(), (q.log_prob(z).numpy() - np.log(densities)).mean(0))


SHAPES = [((1, 28, 28), (10,)), ((10,), (1, 28, 28)), ((3, 27, 21), (4,)), ((4,), (3, 27, 21))]


GRID_SHAPES = [((1, 28, 28), (49, 3)), ((98,), (1, 28, 28)), ((3, 27, 21), (42, 4)), ((84,), (3, 27, 21))]


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs"),
    [
        *((kind, *shapes) for kind in (MLP, GatedMLP, Conv, ResNet) for shapes in SHAPES),
        *((ConvGrid, *shapes) for shapes in GRID_SHAPES),
    ],
)
def test_networks_treat_each_member_of_a_batch_alone(kind: type, inputs: tuple, outputs: tuple) -> None:
    torch.manual_seed(0)
    net = kind(inputs, outputs).double()
    x = torch.randn(2, 3, *inputs, dtype=DOUBLE)
    y = net(x)
    assert y.shape == (2, 3, *outputs)
    assert torch.allclose(net(x[1, 2]), y[1, 2], atol=1e-10)
    with torch.no_grad():
        net.output_bias.add_(1)
    shift = net(x) - y
    assert torch.allclose(shift, torch.ones_like(shift), atol=1e-10), "the output bias is what is added last"


def test_convolutions_between_two_vectors_are_refused() -> None:
    with pytest.raises(UserError, match="connects an image"):
        Conv((3,), (4,))
    for inputs, outputs in (((3,), (4,)), ((1, 4, 4), (1, 4, 4)), ((1, 4), (4,))):
        with pytest.raises(UserError, match=r"^ConvGrid connects an image .* use networks\.MLP there$"):
            ConvGrid(inputs, outputs)


@pytest.mark.parametrize(
    ("inputs", "outputs"), [((1, 28, 28), (16, 8)), ((128,), (1, 28, 28)), ((1, 28, 28), (98, 4)), ((50,), (1, 28, 28))]
)
def test_vectors_that_do_not_stand_on_the_grid_are_refused(inputs: tuple, outputs: tuple) -> None:
    with pytest.raises(UserError, match=r"^ConvGrid has a grid of 7 × 7 = 49 places .* set model\.latent to 49"):
        ConvGrid(inputs, outputs)


@pytest.mark.parametrize("image", [(2, 16, 16), (1, 15, 10)])
def test_places_of_a_grid_lie_in_rows_from_the_top(image: tuple[int, int, int]) -> None:
    """By gradients: a place sees the pixels around it and no others, and a pixel is drawn of the places around it."""
    torch.manual_seed(0)
    sides, grid = image[1:], ((image[1] + 3) // 4, (image[2] + 3) // 4)
    settings = {"channels": 4, "levels": 2, "blocks": 0, "activation": "tanh"}
    encode = ConvGrid(image, (grid[0] * grid[1], 3), **settings).double()
    decode = ConvGrid((grid[0] * grid[1] * 3,), image, **settings).double()
    x = torch.randn(4, *image, dtype=DOUBLE, requires_grad=True)
    z = torch.randn(4, grid[0] * grid[1], 3, dtype=DOUBLE, requires_grad=True)
    said, drawn = encode(x).unflatten(1, grid), decode(z.flatten(1))

    def around(low: list[int], high: list[int], shape: tuple[int, ...]) -> torch.Tensor:
        rows, columns = (
            (torch.arange(n) >= a) & (torch.arange(n) <= b) for a, b, n in zip(low, high, shape, strict=True)
        )
        return rows[:, None] & columns

    for place in itertools.product(*map(range, grid)):
        (seen,) = torch.autograd.grad(said[:, place[0], place[1]].sum(), x, retain_graph=True)
        expected = around([4 * i - 4 for i in place], [4 * i + 4 for i in place], sides)
        assert torch.equal(seen.abs().sum((0, 1)) > 0, expected)
    for pixel in itertools.product(*map(range, sides)):
        (read,) = torch.autograd.grad(drawn[..., pixel[0], pixel[1]].sum(), z, retain_graph=True)
        low, high = ([((i + side * 2) // 2 + side) // 2 + side for i in pixel] for side in (-1, 1))
        assert torch.equal((read.abs().sum((0, 2)) > 0).unflatten(0, grid), around(low, high, grid))


def test_linear_starts_like_torchs_and_stores_its_transpose() -> None:
    torch.manual_seed(0)
    ours = Linear(5, 7)
    torch.manual_seed(0)
    theirs = torch.nn.Linear(5, 7)
    x = torch.randn(4, 5)
    assert ours.weight.shape == (5, 7)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)


def test_layers_have_the_widths_and_the_start_that_are_asked_for() -> None:
    """Glorot's limit and He's deviation, from the weights themselves; None draws what it always drew."""
    torch.manual_seed(0)
    net = MLP((1, 20, 20), (300,), widths=[400, 200], start="glorot")
    assert [tuple(layer.weight.shape) for layer in net.layers] == [(400, 400), (400, 200), (200, 300)]
    for layer in net.layers:
        limit = (6 / sum(layer.weight.shape)) ** 0.5
        assert 0.99 * limit < float(layer.weight.detach().abs().max()) <= limit
        assert not layer.bias.any()
    for layer in MLP((400,), (300,), widths=[400], start="he").layers:
        assert float(layer.weight.detach().std()) == pytest.approx(400**-0.5 * 2**0.5, rel=0.02)
    torch.manual_seed(1)
    plain = MLP((9,), (4,), width=5, depth=2)
    torch.manual_seed(1)
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), MLP((9,), (4,), widths=[5, 5]).parameters(), strict=True)
    )


def test_a_gated_layer_is_a_product_of_a_linear_map_and_gates() -> None:
    net = GatedMLP((3,), (2,), width=4, depth=1).double()
    x = torch.randn(5, 3, dtype=DOUBLE)
    (value,), (gate,) = net.values, net.gates
    hidden = (x @ value.weight + value.bias) / (1 + torch.exp(-(x @ gate.weight + gate.bias)))
    torch.testing.assert_close(net(x), hidden @ net.last.weight + net.last.bias)


def test_a_posterior_s_deviations_are_cut_off_where_that_is_asked_for() -> None:
    posterior = DiagonalGaussian((1, 4, 4), (3,), least=-3.0, most=1.0)
    with torch.no_grad():
        posterior.net.output_bias[3:] = torch.tensor([-9.0, 0.5, 9.0])
        posterior.net.layers[-1].weight.zero_()
    scale = posterior(torch.rand(2, 1, 4, 4)).stddev
    torch.testing.assert_close(scale.log(), torch.tensor([-3.0, 0.5, 1.0]).expand(2, 3))
    with pytest.raises(UserError, match=r"least 1\.0 and most 1\.0: expected least < most"):
        DiagonalGaussian((1, 4, 4), (3,), least=1.0, most=1.0)


@pytest.mark.parametrize("net", [MLP, Conv, ResNet])
@pytest.mark.parametrize("scale", ["fixed", "learned", "decoder"])
@pytest.mark.parametrize(("kind", "measure"), [(Gaussian, "continuous"), (LogisticLikelihood, "discrete256")])
def test_location_scale_likelihoods_start_at_the_mean_and_their_scale(
    kind: type, measure: str, scale: str, net: type
) -> None:
    mean = torch.rand(3, 8, 8)
    likelihood = kind((4,), DataSpec((3, 8, 8), measure, mean), net, scale=scale, initial=0.2)
    with torch.no_grad():
        for name, parameter in likelihood.net.named_parameters():
            if parameter is not likelihood.net.output_bias and name.endswith("weight"):
                parameter.zero_()
        p = likelihood(torch.zeros(2, 5, 4))
        loc, sigma = likelihood.location_scale(torch.zeros(2, 5, 4))
    assert p.batch_shape == (2, 5)
    assert p.event_shape == (3, 8, 8)
    assert torch.allclose(loc, mean.expand(2, 5, 3, 8, 8), atol=1e-6)
    assert torch.allclose(sigma, torch.tensor(0.2))
    assert any(q is getattr(likelihood, "log_excess", None) for q in likelihood.parameters()) == (scale == "learned")


def test_gaussian_likelihood_is_scipys_density_summed_over_pixels() -> None:
    torch.manual_seed(0)
    likelihood = Gaussian((2,), DataSpec((1, 3, 3), "continuous", torch.rand(1, 3, 3)), scale="decoder").double()
    z, x = torch.randn(4, 2, dtype=DOUBLE), torch.rand(4, 1, 3, 3, dtype=DOUBLE)
    with torch.no_grad():
        loc, scale = likelihood.location_scale(z)
        expected = scipy.stats.norm.logpdf(x.numpy(), loc.numpy(), scale.numpy()).sum((1, 2, 3))
        assert np.allclose(likelihood(z).log_prob(x).numpy(), expected)


def test_a_scale_below_its_floor_is_refused() -> None:
    with pytest.raises(UserError, match="floor"):
        Gaussian((2,), DataSpec((1, 2, 2), "continuous"), initial=0.1, floor=0.2)


def test_bernoulli_starts_at_the_clamped_logits_of_the_mean() -> None:
    mean = torch.tensor([0.0, 0.3, 1.0]).reshape(1, 1, 3)
    likelihood = BernoulliLikelihood((2,), DataSpec((1, 1, 3), "binary", mean))
    expected = [math.log(1e-3 / 0.999), math.log(0.3 / 0.7), math.log(0.999 / 1e-3)]
    assert likelihood.net.output_bias.tolist() == pytest.approx(expected, rel=1e-4)
    assert not BernoulliLikelihood((2,), DataSpec((1, 1, 3), "binary", mean), start_at_mean=False).started


@pytest.mark.parametrize(("t", "length", "factor"), [(0, 10, 0), (5, 10, 0.5), (10, 10, 1), (99, 10, 1), (0, 0, 1)])
def test_linear_schedule(t: float, length: float, factor: float) -> None:
    assert float(Warmup(length)(torch.tensor(float(t)))) == pytest.approx(factor)
    assert float(Constant()(torch.tensor(float(t)))) == 1.0


def test_objectives_by_hand() -> None:
    assert float(elbo(torch.tensor(90.0), torch.tensor(20.0))) == -110
    assert float(elbo(torch.tensor(90.0), torch.tensor(20.0), 4.0)) == -170
    log_w = torch.tensor([[1.0, -800.0], [3.0, -802.0]], dtype=DOUBLE)
    expected = [math.log((math.exp(1) + math.exp(3)) / 2), -800 + math.log((1 + math.exp(-2)) / 2)]
    assert importance_weighted(log_w).tolist() == pytest.approx(expected)
    assert torch.equal(importance_weighted(log_w[:1]), log_w[0])


def test_unknown_names_the_nearest_whatever_the_case() -> None:
    assert "did you mean vae" in str(unknown("family", "VEA", ["beta_vae", "vae"]))
    assert str(unknown("file", "x", [])) == "unknown file 'x'; there is none to choose from."
