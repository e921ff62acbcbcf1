"""The exemplar prior against mixtures summed by hand, and who is left out of them."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.stats
import torch
from helpers import POSTERIORS, PRIORS, SPEC, bits, noisy_step, small, tiny
from populations import args, entered, equal_to_solo, trained
from torch import Tensor

import vaebench as vb
from vaebench.core import DataSpec, Family
from vaebench.data.digits import Digits
from vaebench.errors import UserError
from vaebench.training.population import Population

EXAMPLES = bits(9)


def spec(examples: Tensor = EXAMPLES, **settings: Any) -> DataSpec:
    return DataSpec(SPEC.shape, "binary", SPEC.mean, len(examples), examples.float(), **settings)


def exemplar(data: DataSpec, components: int = 9, **settings: Any) -> Family:
    prior = tiny(PRIORS["exemplar.ExemplarPrior"], components=components)
    return small("exemplar_vae", data, prior=prior, **settings)


def by_hand(model: Family, z: Tensor, members: list[int]) -> Tensor:
    """log p(z) of each z (k, 2) under the components of some exemplars, by scipy."""
    centres = model.posterior(EXAMPLES[members]).mean.detach().numpy()
    sigma = float(model.prior.log_scale.exp().detach())
    each = [scipy.stats.norm.pdf(z.numpy(), centre, sigma).prod(-1) for centre in centres]
    return torch.tensor(sum(each) / len(each)).log()


def test_the_prior_is_the_mixture_around_the_exemplars_codes() -> None:
    model = exemplar(spec())
    with torch.no_grad():
        model.prior.log_scale += 0.3
    z = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(model.prior().log_prob(z), by_hand(model, z, list(range(9))))


def test_an_image_leaves_itself_out_and_no_other() -> None:
    """Of four images one is no exemplar, and another is one twice: of each its own mixture, enumerated."""
    examples = EXAMPLES.clone()
    examples[7] = examples[2]
    model = exemplar(spec(examples))
    near = examples[4].clone()
    near[0, 1, 2] = 1 - near[0, 1, 2]  # one pixel from an exemplar
    x = torch.stack([examples[0], examples[2], near, examples[8]])
    kept = [[1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 3, 4, 5, 6, 8], list(range(9)), [0, 1, 2, 3, 4, 5, 6, 7]]
    z = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mixture = model.prior(x)
    assert mixture.batch_shape == (4,)
    scores = mixture.log_prob(z)
    with torch.no_grad():
        centres = model.posterior(examples).mean
    for i, members in enumerate(kept):
        inside = torch.distributions.Normal(centres[members], 1.0).log_prob(z[:, i, None]).sum(-1)
        expected = torch.logsumexp(inside, -1) - torch.log(torch.tensor(float(len(members))))
        assert torch.allclose(scores[:, i], expected)


def test_a_step_scores_exemplars_without_themselves_and_evaluation_with_all() -> None:
    model, whole = exemplar(spec()), exemplar(spec(), leave_out=False)
    with torch.no_grad():
        torch.manual_seed(0)
        drawn = model.draw(EXAMPLES)
        without = drawn.log_x - drawn.log_q + model.prior(EXAMPLES).log_prob(drawn.z)
        assert torch.equal(drawn.log_p, model.prior().log_prob(drawn.z))
        steps = [float(noisy_step(one, EXAMPLES, seed=0)["model"]) for one in (model, whole)]
    assert steps == pytest.approx([-float(without.mean()), -float(drawn.log_w.mean())])
    assert steps[0] != pytest.approx(steps[1], abs=1e-3)


def test_no_gradient_comes_from_the_component_that_is_left_out() -> None:
    model = exemplar(spec())
    z = torch.zeros(1, 1, 2, dtype=torch.float64)
    mixture = model.prior(EXAMPLES[3:4])
    (slope,) = torch.autograd.grad(mixture.log_prob(z).sum(), mixture.components.loc)
    assert torch.equal(slope[3], torch.zeros(2).double())
    assert (slope.abs().sum(-1) > 0).sum() == 8


def test_samples_come_from_every_exemplars_component() -> None:
    model = exemplar(spec())
    with torch.no_grad():
        model.prior.log_scale.fill_(-8.0)
        torch.manual_seed(0)
        drawn, centres = model.prior().sample((900,)), model.posterior(EXAMPLES).mean
    nearest = torch.cdist(drawn, centres).min(-1)
    assert float(nearest.values.max()) < 0.01
    counts = torch.bincount(nearest.indices, minlength=9)
    assert counts.min() >= 99, "drawn by strata: as evenly as their number allows"


def test_the_grey_levels_of_real_images_are_told_apart() -> None:
    data = Digits("discrete17")
    model = vb.build("exemplar_vae", data, latent=2, prior=tiny(PRIORS["exemplar.ExemplarPrior"], components=200))
    images = data.spec.examples
    keys = model.prior._key(images)
    equal = (images[:, None] == images).flatten(2).all(-1)
    assert torch.equal(keys[:, None] == keys, equal)
    left = torch.isinf(model.prior(images).log_weights).sum(-1)
    assert set(left.tolist()) == {0, 1}
    assert left.sum() == 200


def test_images_that_are_drawn_anew_cannot_be_left_out() -> None:
    assert Digits("binary").spec.redrawn
    assert not Digits("discrete17").spec.redrawn
    with pytest.raises(
        UserError, match=r"^ExemplarVAE knows an image among its exemplars by its pixels, and this data"
    ):
        exemplar(spec(redrawn=True), leave_out=True)
    assert not exemplar(spec(redrawn=True)).leave_out
    assert exemplar(spec()).leave_out


def test_what_is_no_exemplar_prior_is_refused() -> None:
    with pytest.raises(UserError, match=r"^ExemplarPrior has 1 components: expected at least 2; raise prior\.comp"):
        exemplar(spec(), components=1)
    with pytest.raises(UserError, match=r"^ExemplarPrior has 10 components, each a training image, and 9 are at hand"):
        exemplar(spec(), components=10)
    with pytest.raises(UserError, match=r"^the exemplars are all the same image, where 2 must differ"):
        exemplar(spec(EXAMPLES[:1].expand(9, -1, -1, -1)))
    with pytest.raises(UserError, match=r"^ExemplarPrior stands around the mean of a Gaussian posterior, and Planar"):
        exemplar(spec(), posterior=tiny(POSTERIORS["flows.PlanarFlow"]))
    full = exemplar(spec(), posterior=tiny(POSTERIORS["gaussian.FullGaussian"]))
    assert torch.isfinite(noisy_step(full, EXAMPLES, seed=0)["model"])


def test_exemplars_may_stand_over_the_upper_level_of_a_hierarchy() -> None:
    prior = tiny(PRIORS["hierarchy.TopDown"], top=tiny(PRIORS["exemplar.ExemplarPrior"], components=9))
    model = small("hvae", spec(), prior=prior)
    centres = model.posterior.top(EXAMPLES).mean
    assert torch.allclose(model.prior.top().components.loc, centres)
    assert torch.isfinite(noisy_step(model, EXAMPLES, seed=0)["model"])


def test_a_model_is_loaded_without_the_images_it_was_trained_on() -> None:
    model, bare = exemplar(spec()), exemplar(DataSpec(SPEC.shape))
    bare.load_state_dict(model.state_dict())
    z = torch.zeros(4, 2).double()
    assert torch.equal(bare.prior().log_prob(z), model.prior().log_prob(z))
    assert torch.equal(bare.prior(EXAMPLES).log_weights, model.prior(EXAMPLES).log_weights)


def test_members_with_exemplars_equal_their_solo_runs(tmp_path: Any) -> None:
    population = Population(lanes=2)
    extra = ["--data.measure=discrete17", "--model.prior.components=40"]
    runs = [[*args("exemplar_vae", seed, epochs=1), *extra] for seed in (0, 1)]
    members = entered(population, runs, tmp_path)
    assert len({member.structure for member in members}) == 1
    trained(population)
    equal_to_solo(members[1], runs[1], tmp_path / "solo", tolerance=1e-6)
