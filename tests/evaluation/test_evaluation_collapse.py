"""Active units and the verdict on collapse, on models whose every unit is known by construction."""

from __future__ import annotations

import json

import pytest
import torch
from oracles import Channels, LinearGaussian, Parts, without
from torch import Tensor
from torch.distributions import Distribution, MixtureSameFamily

from vaebench.distributions import DiagonalNormal
from vaebench.evaluation.conditions import evaluation_mode
from vaebench.evaluation.estimators.collapse import collapse, encoder_signs, shuffle_drops
from vaebench.evaluation.estimators.latents import active_units, read_latents
from vaebench.evaluation.estimators.moments import Moments

N, SIGNS = 400, ("kl", "mean", "decoder")


def verdict(model: object, x: Tensor, seed: int = 0) -> dict:
    with evaluation_mode(model, torch.device("cpu")):
        found = collapse(encoder_signs(read_latents(model, x)), shuffle_drops(model, x, seed))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


# Active units -----------------------------------------------------------------------------------------------------


def test_active_units_are_those_whose_mean_varies() -> None:
    """Not as many as there are latents: peers count those."""
    variance = torch.tensor([0.0, 0.0005, 0.005, 0.05, 0.5])
    mean = torch.randn(20_000, 5, generator=torch.Generator().manual_seed(0)) * variance.sqrt()
    assert [active_units(Moments.of(mean), threshold) for threshold in (0.001, 0.01, 0.1)] == [3, 2, 1]


def test_the_variance_is_unbiased() -> None:
    mean = torch.tensor([[0.0], [1.0], [2.0]])  # variance 1 with n − 1, 2/3 with n
    assert (active_units(Moments.of(mean), 0.99), active_units(Moments.of(mean), 1.01)) == (1, 0)


def test_units_are_read_in_closed_form() -> None:
    model = Channels([1, 0, 1], [1, 1, 0], idle_scale=0.5)
    x = model.images(1203)  # more than one batch
    found = read_latents(model, x)
    torch.testing.assert_close(found.kl, model.kl().expand(1203, 3))
    torch.testing.assert_close(found.rate, found.kl.sum(1))
    torch.testing.assert_close(found.mean, model.writes * (2 * x.flatten(1) - 1))
    assert found.why == {}


def test_what_is_not_defined_says_why() -> None:
    full = LinearGaussian()
    found = read_latents(full, full.images(4))
    assert found.kl is None
    assert "does not factorise" in found.why["kl"]
    assert found.rate is not None, "two full Gaussians have a divergence, though no units"

    model = Channels([1, 1], [1, 1])

    def mixture() -> Distribution:
        means = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
        return MixtureSameFamily(
            torch.distributions.Categorical(torch.ones(2).double()), DiagonalNormal(means, means * 0 + 1)
        )

    found = read_latents(Parts(model.posterior, mixture, model.likelihood), model.images(4))
    assert found.mean is not None
    assert set(found.why) == {"kl", "rate"}
    assert "prior" in found.why["kl"]
    assert "no closed form" in found.why["rate"]
    assert "no mean" in read_latents(without(model, posterior="mean"), model.images(4)).why["mean"]


# The three signs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_model_has_not_collapsed(seed: int) -> None:
    model = Channels([1] * 6, [1] * 6)
    found = verdict(model, model.images(N, seed), seed)
    assert found["verdict"] == "none"
    assert found["units"] == found["disagreement"] == []
    assert found["signs"] == {"kl": [], "mean": [], "decoder": []}
    assert "all 6 units carry something" in found["sentence"]


@pytest.mark.parametrize("seed", range(5))
def test_a_collapsed_model_is_seen_by_all_three_signs(seed: int) -> None:
    model = Channels([0] * 6, [0] * 6)
    found = verdict(model, model.images(N, seed), seed)
    assert found["verdict"] == "full"
    assert found["signs"] == {sign: list(range(6)) for sign in SIGNS}
    assert found["decoder_drop_whole"] == 0
    assert "the encoder writes nothing there" in found["sentence"]
    assert "warm-up" in found["sentence"]


@pytest.mark.parametrize("seed", range(5))
def test_the_collapsed_units_are_named(seed: int) -> None:
    model = Channels([1, 0, 1, 1, 0, 1], [1, 0, 1, 1, 0, 1])
    found = verdict(model, model.images(N, seed), seed)
    assert found["verdict"] == "partial"
    assert found["units"] == [1, 4]
    assert found["signs"] == {sign: [1, 4] for sign in SIGNS}
    assert "2 of 6 units" in found["sentence"]
    assert "(units 1, 4)" in found["sentence"]


def test_a_decoder_that_ignores_the_code_is_the_suspect() -> None:
    model = Channels([1] * 4, [0] * 4)
    found = verdict(model, model.images(N))
    assert found["verdict"] == "full"
    assert found["signs"] == {"kl": [], "mean": [], "decoder": [0, 1, 2, 3]}
    assert "suspect the decoder" in found["sentence"]
    found = verdict(Channels([1] * 4, [1, 0, 1, 1]), model.images(N))
    assert (found["verdict"], found["units"]) == ("partial", [1])


def test_an_encoder_that_ignores_the_image_is_the_suspect() -> None:
    """Its rate is not zero, and the decoder moves with the noise: only the images' own codes show nothing is said."""
    model = Channels([0] * 4, [1] * 4, idle_scale=0.1)
    found = verdict(model, model.images(N))
    assert found["verdict"] == "full"
    assert found["signs"] == {"kl": [], "mean": [0, 1, 2, 3], "decoder": [0, 1, 2, 3]}
    assert "mean is the same for all images" in found["sentence"]


@pytest.mark.parametrize("seed", range(5))
def test_noise_that_the_decoder_follows_is_no_information(seed: int) -> None:
    """An unwritten unit that is read moves log p(x|z) by nats either way, and by nothing in the mean."""
    model = Channels([1, 0, 1, 1], [1, 1, 1, 1])
    found = verdict(model, model.images(N, seed), seed)
    assert found["units"] == [1]


def test_small_codes_that_are_read_are_a_disagreement() -> None:
    """A variance of 0.0025 is below the threshold, yet with a posterior that is sharper still the unit is at work."""
    healthy = Channels([1, 1], [1, 1])

    def posterior(x: Tensor) -> Distribution:
        q = healthy.posterior(x).base_dist
        factor = torch.tensor([0.05, 1.0])
        return DiagonalNormal(q.loc * factor, q.scale * factor)

    def likelihood(z: Tensor) -> Distribution:
        return healthy.likelihood(z / torch.tensor([0.05, 1.0]))

    found = verdict(Parts(posterior, healthy.prior, likelihood), healthy.images(N))
    assert found["verdict"] == "none"
    assert (found["signs"]["mean"], found["disagreement"]) == ([0], [0])
    assert "unit 0" in found["sentence"]


def test_signs_that_cannot_be_read_are_named() -> None:
    model = LinearGaussian()
    found = verdict(model, model.images(N))
    assert found["signs"]["kl"] is None
    assert "does not factorise" in found["unread"]["kl"]
    assert found["verdict"] == "none"


def test_shuffling_keeps_no_image_in_place_and_does_no_harm_in_the_mean_of_equals() -> None:
    model = Channels([1, 1, 1], [1, 1, 1])
    same = model.images(1).expand(N, 1, 1, 3)
    with evaluation_mode(model, torch.device("cpu")):
        drops = shuffle_drops(model, same)
        assert abs(drops.whole) < 4 * drops.whole_se, "equal images have equal codes"
        two = torch.stack([torch.zeros(1, 1, 3), torch.ones(1, 1, 3)]).double()
        drops = shuffle_drops(model, two)
        z = model.posterior(two).mean[None]
        swapped = model.likelihood(z.flip(1)).log_prob(two)
        assert drops.whole > 0.5 * float((model.likelihood(z).log_prob(two) - swapped).mean()) > 5
