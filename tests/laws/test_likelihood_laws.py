"""The laws that every likelihood obeys, found by walking the package, and each distribution against its oracle."""

from __future__ import annotations

import importlib
import inspect
import itertools
import math
import pkgutil

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

import vaebench.likelihoods
from vaebench.distributions.interval import Beta, ContinuousBernoulli, TruncatedNormal, solved, tilted_mean
from vaebench.distributions.levels import Levels, LogisticMixture
from vaebench.errors import UserError
from vaebench.likelihoods import Likelihood, LocationScale, is_surrogate, natural
from vaebench.likelihoods.levels import MixturePixels
from vaebench.measures import DataSpec

DOUBLE = torch.float64
MODULES = [vaebench.likelihoods.__name__, *(
    f"{vaebench.likelihoods.__name__}.{m.name}" for m in pkgutil.iter_modules(vaebench.likelihoods.__path__)
)]  # fmt: skip
CLASSES = {
    name: cls
    for module in MODULES
    for name, cls in inspect.getmembers(importlib.import_module(module), inspect.isclass)
    if issubclass(cls, Likelihood) and cls.__module__ == module and getattr(cls, "support", None)
}
NAMES = {"binary": "binary", "discrete": "discrete4", "continuous": "continuous"}
PAIRS = [(name, kind) for name, cls in sorted(CLASSES.items()) for kind in sorted(cls.support)]
FEW = {"layers": 2, "channels": 8, "steps": 8, "depth": 1}  # so that the laws are quick
every_pair = pytest.mark.parametrize(("name", "kind"), PAIRS)


def spec(kind: str, shape: tuple[int, int, int]) -> DataSpec:
    mean = torch.linspace(0.1, 0.8, math.prod(shape)).reshape(shape)
    return DataSpec(shape, NAMES[kind], mean)


def small(name: str, kind: str, shape: tuple[int, int, int] = (1, 2, 2), seed: int = 0) -> Likelihood:
    torch.manual_seed(seed)
    few = {n: v for n, v in FEW.items() if n in inspect.signature(CLASSES[name]).parameters}
    return CLASSES[name]((2,), spec(kind, shape), **few).double()


EXACT = [pair for pair in PAIRS if not small(*pair).bound]  # the others draw noise and score below log p(x|z)
every_exact_pair = pytest.mark.parametrize(("name", "kind"), EXACT)


def images(data: DataSpec, n: int, seed: int = 0) -> Tensor:
    """n random images of a measure, in float64."""
    x = torch.rand(n, *data.shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    return x if data.levels is None else (x * (data.levels - 1)).round() / (data.levels - 1)


def every_image(data: DataSpec) -> Tensor:
    """All images of a discrete measure, (levels^D, *shape)."""
    values = [j / (data.levels - 1) for j in range(data.levels)]
    return torch.tensor(list(itertools.product(values, repeat=data.dimensions)), dtype=DOUBLE).reshape(-1, *data.shape)


def test_the_walk_finds_the_likelihoods() -> None:
    assert {"Bernoulli", "Gaussian", "LogisticMixture", "Categorical", "Beta", "ContinuousBernoulli"} <= set(CLASSES)


@every_exact_pair
def test_it_sums_or_integrates_to_one(name: str, kind: str) -> None:
    likelihood = small(name, kind, (1, 1, 1) if kind == "continuous" else (2, 1, 2))
    z = torch.tensor([[0.3, -1.2], [2.0, 0.5]], dtype=DOUBLE)
    with torch.no_grad():
        if kind == "continuous":
            bounded = name in ("Beta", "ContinuousBernoulli", "TruncatedGaussian")
            points, weights = np.polynomial.legendre.leggauss(2000)
            low, high = (0.0, 1.0) if bounded else (-9.0, 10.0)
            x = torch.from_numpy((points + 1) / 2 * (high - low) + low).reshape(-1, 1, 1, 1)
            mass = torch.from_numpy(weights) * (high - low) / 2
        else:
            x = every_image(likelihood_data(likelihood, kind))
            mass = torch.ones(len(x), dtype=DOUBLE)
        density = likelihood(z[:, None].expand(2, len(x), 2)).log_prob(x).exp()  # (2, values)
    assert (density @ mass).tolist() == pytest.approx([1, 1], abs=1e-6)


def likelihood_data(likelihood: Likelihood, kind: str) -> DataSpec:
    return spec(kind, tuple(likelihood(torch.zeros(1, 2, dtype=DOUBLE)).event_shape))


@every_exact_pair
def test_it_samples_what_it_scores(name: str, kind: str) -> None:
    """Frequencies of all values, or of ten equal intervals, against the masses that scoring gives them."""
    n, likelihood = 20_000, small(name, kind, (1, 1, 1) if kind == "continuous" else (2, 1, 1))
    z = torch.tensor([[0.3, -1.2]], dtype=DOUBLE)
    with torch.no_grad():
        p = likelihood(z)
        torch.manual_seed(1)
        drawn = p.sample((n,))[:, 0].flatten(1)
        if kind == "continuous":
            edges = torch.quantile(drawn[: n // 2, 0], torch.linspace(0, 1, 11, dtype=DOUBLE))[1:-1]
            grid = torch.linspace(-3, 4, 70_001, dtype=DOUBLE)
            inside = (grid > 0) & (grid < 1) if drawn.min() >= 0 and drawn.max() <= 1 else grid == grid
            density = p.log_prob(grid[inside].reshape(-1, 1, 1, 1)).exp()
            cells = torch.bucketize(grid[inside], edges)
            counts = torch.bincount(torch.bucketize(drawn[n // 2 :, 0].contiguous(), edges), minlength=10)
        else:
            values = every_image(likelihood_data(likelihood, kind))
            density = p.log_prob(values).exp()
            cells = torch.arange(len(values))
            match = (drawn[:, None] - values.flatten(1)).abs().sum(-1)
            assert float(match.min(1).values.max()) < 1e-9, "every sample is a value of the measure"
            counts = torch.bincount(match.argmin(1), minlength=len(values))
    mass = torch.zeros(len(counts), dtype=DOUBLE).index_add(0, cells, density.flatten())
    expected = (mass / mass.sum() * counts.sum()).numpy()
    seen = expected > 5
    assert seen.sum() > 1
    frequencies, expected = counts.numpy()[seen], expected[seen]
    assert scipy.stats.chisquare(frequencies, expected * frequencies.sum() / expected.sum()).pvalue > 1e-4


@pytest.mark.parametrize(("name", "kind"), [pair for pair in PAIRS if pair[0] != "Diffusion"])  # in a file of its own
def test_it_starts_at_the_training_mean(name: str, kind: str) -> None:
    shape = (3, 3, 2)
    likelihood, mean = small(name, kind, shape), spec(kind, shape).mean.double()
    assert likelihood.started
    with torch.no_grad():
        for n, parameter in likelihood.net.named_parameters():
            if n.endswith("weight"):
                parameter.zero_()
        p = likelihood(torch.zeros(1, 2, dtype=DOUBLE))
        try:
            found = p.mean[0]
        except NotImplementedError:
            torch.manual_seed(0)
            assert torch.allclose(p.sample((1500,))[:, 0].mean(0), mean, atol=0.04)
            return
    assert torch.allclose(found, mean, atol=2e-3)


class Scored(nn.Module):
    """log p(x|z) as a module's output: an autoregressive likelihood calls its network when it scores."""

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = likelihood

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.likelihood(z).log_prob(x)


@every_pair
def test_members_under_vmap_score_as_they_do_alone(name: str, kind: str) -> None:
    members = [Scored(small(name, kind, (3, 4, 4), seed)) for seed in range(2)]
    data = spec(kind, (3, 4, 4))
    x, z = images(data, 3), torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)

    def score(state: tuple[dict, dict]) -> Tensor:
        return functional_call(members[0], state, (z, x))

    torch.manual_seed(3)
    together = vmap(score, randomness="same")(stack_module_state(members))  # type: ignore[arg-type]
    assert together.shape == (2, 2, 3)
    for member, found in zip(members, together, strict=True):
        torch.manual_seed(3)
        torch.testing.assert_close(found, member(z, x))
    assert torch.isfinite(vmap(score, randomness="different")(stack_module_state(members))).all()


@every_pair
def test_every_parameter_learns(name: str, kind: str) -> None:
    likelihood, data = small(name, kind, (3, 4, 4)), spec(kind, (3, 4, 4))
    likelihood(torch.randn(2, 3, 2, dtype=DOUBLE)).log_prob(images(data, 3)).mean().backward()
    for n, parameter in likelihood.named_parameters():
        assert parameter.grad is not None, n
        assert torch.isfinite(parameter.grad).all(), n
        assert float(parameter.grad.abs().sum()) > 0, n


@every_exact_pair
def test_an_image_s_score_does_not_depend_on_the_images_beside_it(name: str, kind: str) -> None:
    likelihood, data = small(name, kind, (3, 4, 4)), spec(kind, (3, 4, 4))
    x, z = images(data, 4), torch.randn(3, 4, 2, dtype=DOUBLE)
    with torch.no_grad():
        whole = likelihood(z).log_prob(x)
        assert whole.shape == (3, 4)
        torch.testing.assert_close(likelihood(z[1:2, 2:3]).log_prob(x[2:3]), whole[1:2, 2:3])


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("name", sorted(CLASSES))
def test_other_measures_are_refused(name: str, kind: str) -> None:
    likelihood, data = small(name, sorted(CLASSES[name].support)[0]), spec(kind, (1, 2, 2))
    if kind in CLASSES[name].support:
        assert not is_surrogate(likelihood, data, allowed=False)
    else:
        with pytest.raises(UserError, match=f"choose {natural(data).__name__}"):
            is_surrogate(likelihood, data, allowed=False)


# Oracles ----------------------------------------------------------------------------------------------------------


def _mixture(c: int, k: int, levels: int, seed: int = 0, pixels: tuple[int, int] = (1, 1)) -> LogisticMixture:
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, *pixels, generator=g, dtype=DOUBLE)  # noqa: E731
    return LogisticMixture(draw(k), draw(k, c) * 0.4 + 0.5, draw(k, c).exp() * 0.1, draw(k, c * (c - 1) // 2), levels)


@pytest.mark.parametrize(("c", "levels", "pixels"), [(1, 17, (1, 1)), (2, 7, (1, 1)), (3, 6, (1, 1)), (3, 2, (1, 2))])
def test_a_channel_autoregressive_mixture_sums_to_one_over_all_colours(
    c: int, levels: int, pixels: tuple[int, int]
) -> None:
    p = _mixture(c, 3, levels, pixels=pixels)
    values = every_image(DataSpec((c, *pixels), f"discrete{levels}"))
    assert float(p.log_prob(values).exp().sum()) == pytest.approx(1, abs=1e-12)


def test_a_mixture_is_what_its_equation_says_with_scipy_s_logistic() -> None:
    p, levels = _mixture(3, 2, 9), 9
    x = torch.tensor([3 / 8, 0.0, 1.0], dtype=DOUBLE).reshape(3, 1, 1)
    weights, total = p.logits.softmax(0).flatten().numpy(), 0.0
    for k in range(2):
        m, s, a = (t[k].flatten().numpy() for t in (p.loc, p.scale, p.coupling))
        v = x.flatten().numpy() - 0.5
        mu = [m[0], m[1] + a[0] * v[0], m[2] + a[1] * v[0] + a[2] * v[1]]
        mass = weights[k]
        for channel in range(3):
            level, cdf = x.flatten()[channel] * (levels - 1), scipy.stats.logistic(mu[channel], s[channel]).cdf
            high = 1 if level == levels - 1 else cdf((level + 0.5) / (levels - 1))
            mass *= high - (0 if level == 0 else cdf((level - 0.5) / (levels - 1)))
        total += mass
    assert float(p.log_prob(x)) == pytest.approx(math.log(total), rel=1e-9)


def test_a_mixture_of_one_channel_and_component_is_the_discretised_logistic() -> None:
    from vaebench.distributions import DiscretisedLogistic

    p = _mixture(1, 1, 256)
    single = DiscretisedLogistic(p.loc[0], p.scale[0], 256, event=3)
    x = torch.arange(256, dtype=DOUBLE).reshape(-1, 1, 1, 1) / 255
    torch.testing.assert_close(p.log_prob(x), single.log_prob(x))


def test_samples_of_a_mixture_condition_on_the_level_drawn_not_on_the_number_before_rounding() -> None:
    """Code that follows the paper's often couples green to red as it was before rounding, which scores another
    distribution; with two levels and a strong coupling the two are far apart."""
    fill = lambda *v: torch.tensor(v, dtype=DOUBLE).reshape(1, -1, 1, 1)  # noqa: E731
    p = LogisticMixture(torch.zeros(1, 1, 1, dtype=DOUBLE), fill(0.45, 0.5), fill(0.02, 0.02), fill(1.0), 2)
    torch.manual_seed(0)
    red, green = p.sample((4000,)).flatten(1).T
    assert float((red == green).double().mean()) > 0.999
    assert float(p.log_prob(torch.zeros(2, 1, 1, dtype=DOUBLE)).exp()) > 0.9


def test_levels_are_scipy_s_categoricals() -> None:
    logits = torch.randn(2, 5, 3, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    level = torch.randint(5, (2, 3, 4), generator=torch.Generator().manual_seed(1))
    expected = torch.distributions.Categorical(logits=logits.movedim(1, -1)).log_prob(level).sum()
    assert float(Levels(logits).log_prob(level / 4)) == pytest.approx(float(expected))


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.8), (2.0, 5.0), (90.0, 3.0)])
def test_the_beta_density_is_scipy_s(alpha: float, beta: float) -> None:
    x = torch.linspace(0.001, 0.999, 50, dtype=DOUBLE)
    p = Beta(torch.tensor(alpha, dtype=DOUBLE), torch.tensor(beta, dtype=DOUBLE))
    assert np.allclose(p.log_prob(x).numpy(), scipy.stats.beta.logpdf(x.numpy(), alpha, beta))
    assert torch.isfinite(p.log_prob(torch.tensor([0.0, 1.0], dtype=DOUBLE))).all()


@pytest.mark.parametrize("logit", [-800.0, -30.0, -2.0, -0.19, -1e-6, 0.0, 1e-6, 0.21, 3.0, 30.0, 800.0])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_the_continuous_bernoulli_is_a_truncated_exponential_of_scipy_s(logit: float, dtype: torch.dtype) -> None:
    x = torch.linspace(0, 1, 11, dtype=DOUBLE)
    p = ContinuousBernoulli(torch.full((11, 1), logit, dtype=dtype))
    size = abs(logit) or 1e-12
    away = x if logit <= 0 else 1 - x
    expected = scipy.stats.truncexpon.logpdf(away.numpy(), b=size, scale=1 / size)
    assert np.allclose(p.log_prob(x[:, None].to(dtype)), expected, rtol=1e-5 if dtype == torch.float32 else 1e-9,
                       atol=1e-6 if dtype == torch.float32 else 1e-10)  # fmt: skip
    mean = scipy.stats.truncexpon.mean(b=size, scale=1 / size) if size > 1e-3 else 0.5
    assert p.mean.double().numpy() == pytest.approx(mean if logit <= 0 else 1 - mean, abs=1e-6)


@pytest.mark.parametrize("scale", [0.01, 0.3, 5.0])
@pytest.mark.parametrize("loc", [-0.9, 0.0, 0.4, 1.0, 1.7])
def test_the_truncated_normal_is_scipy_s(loc: float, scale: float) -> None:
    x = torch.linspace(0, 1, 21, dtype=DOUBLE)
    p = TruncatedNormal(torch.full((21, 1), loc, dtype=DOUBLE), torch.tensor(scale, dtype=DOUBLE))
    oracle = scipy.stats.truncnorm(-loc / scale, (1 - loc) / scale, loc, scale)
    assert np.allclose(p.log_prob(x[:, None]).numpy(), oracle.logpdf(x.numpy()), rtol=1e-8)
    assert p.mean.numpy() == pytest.approx(oracle.mean(), abs=1e-9)
    torch.manual_seed(0)
    drawn = p.sample((500,)).flatten().numpy()
    assert scipy.stats.kstest(drawn, oracle.cdf).pvalue > 1e-4


def test_the_truncated_normal_is_finite_and_has_gradients_far_outside_in_single_precision() -> None:
    loc = torch.tensor([[-50.0], [0.5], [60.0]], requires_grad=True)
    value = TruncatedNormal(loc, torch.tensor(0.05)).log_prob(torch.tensor([[0.0], [0.5], [1.0]]))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(loc.grad).all()
    assert float(value[0].detach()) == pytest.approx(math.log(50 / 0.05**2), rel=1e-3), (
        "an exponential's density at its end"
    )


def test_solved_inverts_a_mean() -> None:
    mean = torch.tensor([0.02, 0.3, 0.5, 0.9])
    assert torch.allclose(tilted_mean(solved(tilted_mean, mean, -500, 500)), mean, atol=1e-6)


def test_a_scale_for_each_pixel_is_learned_the_same_for_all_codes() -> None:
    data = spec("continuous", (1, 3, 3))
    likelihood = vaebench.likelihoods.Gaussian((2,), data, scale="pixel", initial=0.2, floor=0.05)
    z, x = torch.randn(4, 2), torch.rand(4, 1, 3, 3)
    before = likelihood.location_scale(z)[1]
    assert before.shape == (1, 3, 3)
    assert torch.allclose(before, torch.tensor(0.2))
    likelihood(z).log_prob(x).sum().backward()
    assert int((likelihood.log_excess.grad != 0).sum()) == 9


def test_the_floor_of_a_scale_stands_among_the_facts_of_a_record() -> None:
    for name, kind in PAIRS:
        if issubclass(CLASSES[name], LocationScale):
            assert small(name, kind).facts["scale_floor"] == 1e-3
    assert MixturePixels(spec("discrete", (1, 2, 2)), floor=0.01).facts["scale_floor"] == 0.01


def test_a_mixture_without_components_is_refused() -> None:
    with pytest.raises(UserError, match="at least one"):
        MixturePixels(spec("discrete", (1, 2, 2)), components=0)
