"""What importance weights tell of themselves, against known tails and expectations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats
from oracles import Data, LinearGaussian, OneLatent
from scipy import stats

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.evaluation.estimators.weights import FEWEST, jackknife, largest, tail_length
from vaebench.evaluation.estimators.weights import pareto_k as fitted


def pareto_k(log_w: torch.Tensor) -> torch.Tensor:
    return fitted(largest(log_w), len(log_w))


@pytest.mark.parametrize("shape", [0.1, 0.5, 0.9, 1.5])
def test_the_tail_s_shape_is_that_of_the_pareto_distribution_it_was_drawn_from(shape: float) -> None:
    weights = stats.genpareto.rvs(shape, size=(20_000, 40), random_state=1)
    found = pareto_k(torch.from_numpy(weights).log())
    assert float(found.mean()) == pytest.approx(shape, abs=0.06)


@pytest.mark.parametrize("scale", [0.6, 0.8])
def test_a_proposal_that_is_too_narrow_is_found_out(scale: float) -> None:
    """With p = N(0, 1) and q = N(0, s²) the weights have a tail of shape 1 − s², up to a logarithm."""
    z = torch.randn(100_000, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale
    log_w = -z.square() / 2 + z.square() / (2 * scale**2)
    assert float(pareto_k(log_w).mean()) == pytest.approx(1 - scale**2, abs=0.12)


@pytest.mark.parametrize("samples", [25, 100, 225, 400, 500, 1000, 2500])
def test_the_tail_s_shape_equals_arviz_s(samples: int) -> None:
    """Of tails from light to heavier than any mean; ArviZ rounds a tail's length down, where R's loo rounds it up."""
    spread = torch.tensor([0.1, 0.5, 1, 2, 3, 5], dtype=torch.float64)
    log_w = torch.randn(samples, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * spread - 700
    tail = tail_length(samples)
    assert tail == math.ceil(min(samples / 5, 3 * math.sqrt(samples)))
    efficiency = 1 if samples <= 225 else samples / ((tail + 0.5) / 3) ** 2  # at which ArviZ's tail has this length
    weights = (log_w - log_w.amax(0)).exp().T.numpy()
    expected = array_stats.pareto_khat(weights, chain_axis=None, draw_axis=-1, r_eff=efficiency, tail="right")
    np.testing.assert_allclose(pareto_k(log_w), expected, rtol=0, atol=1e-10)


def test_constant_weights_and_few_samples() -> None:
    assert pareto_k(torch.full((1000, 2), -700.0, dtype=torch.float64)).tolist() == [0, 0]
    assert torch.isnan(pareto_k(torch.zeros(FEWEST - 1, 2))).all()
    assert torch.isfinite(pareto_k(torch.randn(FEWEST, 2))).all()


def test_the_jackknife_is_the_mean_over_left_out_samples() -> None:
    log_w = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 800
    whole = torch.logsumexp(log_w, 0) - math.log(9)
    left = [torch.logsumexp(torch.cat([log_w[:i], log_w[i + 1 :]]), 0) - math.log(8) for i in range(9)]
    corrected, variance = jackknife(log_w)
    torch.testing.assert_close(corrected, 9 * whole - 8 * torch.stack(left).mean(0))
    torch.testing.assert_close(variance, 8 * torch.stack(left).var(0))
    assert torch.isnan(torch.stack(jackknife(log_w[:1]))).all()


def test_one_weight_that_is_all_there_is_has_its_whole_lead_for_a_spread() -> None:
    """Less it, the log mean falls by 100 nats, which 1 − w/Σw in double precision does not know."""
    log_w = torch.zeros(50, 1, dtype=torch.float64)
    log_w[3] = 100 + math.log(49)
    assert float(jackknife(log_w)[1]) == pytest.approx(100**2 * 49 / 50, rel=1e-3)


@pytest.mark.parametrize("spread", [0.5, 1, 2, 3, 5])
def test_the_claimed_variance_is_the_scatter_of_repetition_for_log_normal_weights(spread: float) -> None:
    """The delta method's falls short by 9 % at a spread of 2 nats, where k̂ is 0.66, and by half at 5."""
    log_w = spread * torch.randn(500, 4000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ratio = float(jackknife(log_w)[1].mean().sqrt() / torch.logsumexp(log_w, 0).std())
    assert 0.95 < ratio < 1.15


def test_both_corrections_take_out_most_of_the_bias() -> None:
    model = OneLatent()
    x = model.images(100)
    data, exact = Data(x, DataSpec(model.shape)), model.log_likelihood(x).numpy()
    runs = [
        vb.evaluate(model, data, k=20, seed=seed, measurements={"likelihood": {"corrections": True}}).per_image
        for seed in range(20)
    ]
    biases = {name: np.stack([run[name] - exact for run in runs]) for name in runs[0] if name.startswith("log_l")}
    plain = biases.pop("log_likelihood").mean()
    assert plain < 0
    assert biases.keys() == {"log_likelihood_jackknife", "log_likelihood_delta"}
    for bias in biases.values():
        assert abs(bias.mean()) < abs(plain) / 2


def test_a_proposal_that_misses_the_posterior_warns_and_a_good_one_does_not() -> None:
    good, bad = LinearGaussian(orthogonal=True, stretch=1.1), LinearGaussian(orthogonal=True, stretch=0.4)
    x = good.images(30)
    spec = DataSpec(tuple(x.shape[1:]), "continuous")
    sound, doubtful = (vb.evaluate(model, Data(x, spec), k=2000) for model in (good, bad))
    assert sound.warnings == []
    assert sound.metrics["untrusted_images"].value == 0
    assert doubtful.metrics["untrusted_images"].value > 20
    (warning,) = doubtful.warnings
    assert f"{doubtful.metrics['untrusted_images'].value:.0f} of 30 images" in warning
    few = vb.evaluate(good, Data(x, spec), k=10)
    assert "no tail to fit" in few.metrics["pareto_k"].unavailable
