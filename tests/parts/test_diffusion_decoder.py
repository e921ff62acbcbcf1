"""The diffusion decoder: its path's weight against quadrature, and its training score against the same bound."""

from __future__ import annotations

import math
from functools import partial
from inspect import signature

import pytest
import torch
from conditional_models import Labelled
from helpers import POSTERIORS, SPEC, bits, labels, small, tiny
from oracles import Data
from torch import Tensor

from vaebench.configuration.discovery import families
from vaebench.core import DataSpec
from vaebench.errors import UserError
from vaebench.evaluation import evaluate, log_likelihood
from vaebench.evaluation.conditions import evaluation_mode
from vaebench.evaluation.estimators.likelihood import sampled_distortion
from vaebench.likelihoods.diffusion import Diffusion
from vaebench.networks import MLP

DOUBLE = torch.float64


def diffusion(measure: str, steps: int, shape: tuple[int, int, int] = (1, 1, 1), clear: float = 2.0) -> Diffusion:
    torch.manual_seed(0)
    data = DataSpec(shape, measure, torch.full(shape, 0.4))
    made = Diffusion((2,), data, steps=steps, clear=clear, noisy=-3.0, channels=4, levels=1).double()
    made.net.head.weight.data.mul_(4)  # far from the Gaussian that it starts as
    return made


def exact(model: Diffusion, z: Tensor, x: Tensor) -> float:
    """p(x|z) of an image of one value with T = 2: ∫∫ N(x_2; 0, 1) p(x_1|x_2, z) p(x|x_1) dx_2 dx_1 on a grid."""
    grid = torch.linspace(-7, 7, 281, dtype=DOUBLE)
    cell, n = float(grid[1] - grid[0]), len(grid)
    p = model(z.expand(n, 2))
    s, t = (torch.full((n,), i) for i in (0, 1))
    noisy = grid.view(n, 1, 1, 1)
    start = torch.exp(-grid.square() / 2) / math.sqrt(2 * math.pi)
    step = p._step(p.denoise(noisy, t), noisy, s, t)
    middle = torch.exp(-((grid - step.loc.view(n, 1)) / step.scale.view(n, 1)).square() / 2) / (
        step.scale.view(n, 1) * math.sqrt(2 * math.pi)
    )  # (x_2, x_1)
    end = p._reconstruction((2 * x - 1).expand(n, 1, 1, 1), noisy).exp()
    return float(start @ middle @ end) * cell**2


@pytest.mark.parametrize("measure", ["binary", "discrete4", "continuous"])
def test_a_path_s_weight_has_the_likelihood_for_a_mean(measure: str) -> None:
    model, z = diffusion(measure, 2), torch.tensor([[0.4, -1.1]], dtype=DOUBLE)
    values = torch.linspace(0, 1, DataSpec((1, 1, 1), measure).levels or 5, dtype=DOUBLE)
    total, n = 0.0, 20_000
    with torch.no_grad():
        for value in values:
            x = value.view(1, 1, 1)
            log_w = model(z.expand(n, 2)).log_prob(x)
            truth, error = exact(model, z, x), float(log_w.exp().std()) / n**0.5
            assert float(log_w.exp().mean()) == pytest.approx(truth, abs=4 * error)
            assert float(log_w.mean()) < math.log(truth), "the bound is one"
            total += truth
    if measure != "continuous":
        assert total == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("measure", ["binary", "discrete4", "continuous"])
def test_the_score_in_training_has_the_mean_of_the_whole_path_s(measure: str) -> None:
    """One t and the divergences in closed form, against log-weights of paths: two estimates of one bound."""
    model, n = diffusion(measure, 6, (1, 2, 2)), 20_000
    z, x = torch.tensor([[0.4, -1.1]], dtype=DOUBLE).expand(n, 2), torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=DOUBLE)
    with torch.no_grad():
        path = model(z).log_prob(x.view(1, 2, 2))
    single = model(z).log_prob(x.view(1, 2, 2)).detach()
    error = ((path.var() + single.var()) / n).sqrt()
    assert abs(float(path.mean() - single.mean())) < 4 * float(error)
    assert float(error) < 0.1


def test_samples_of_all_steps_have_the_frequencies_that_are_scored() -> None:
    model, z, n = diffusion("discrete4", 2), torch.tensor([[0.4, -1.1]], dtype=DOUBLE), 20_000
    torch.manual_seed(1)
    with torch.no_grad():
        drawn = (model(z.expand(n, 2)).sample().flatten() * 3).round().long()
        masses = [exact(model, z, torch.tensor(j / 3, dtype=DOUBLE).view(1, 1, 1)) for j in range(4)]
    for j, mass in enumerate(masses):
        assert float((drawn == j).double().mean()) == pytest.approx(mass, abs=4 * (mass * (1 - mass) / n) ** 0.5)


@pytest.mark.parametrize("measure", ["binary", "discrete4", "continuous"])
def test_it_starts_at_the_training_mean(measure: str) -> None:
    """With many steps and a network that says nothing yet; with few the chain is narrower than its Gaussian."""
    mean = torch.linspace(0.1, 0.8, 6, dtype=DOUBLE).view(1, 2, 3)
    net = partial(MLP, width=2, depth=1)
    model = Diffusion((2,), DataSpec((1, 2, 3), measure, mean), steps=200, channels=2, levels=0, net=net).double()
    assert model.started
    model.net.head.weight.data.zero_()
    torch.manual_seed(0)
    drawn = model(torch.zeros(2000, 2, dtype=DOUBLE)).sample()
    assert torch.allclose(drawn.mean(0), mean, atol=0.04)


def test_fewer_steps_visit_fewer_levels_and_end_in_images() -> None:
    model = diffusion("discrete4", 12, (1, 4, 4))
    visited: list[int] = []
    p = model(torch.zeros(3, 2, dtype=DOUBLE))
    denoise = p.denoise
    p.denoise = lambda x, t: (visited.append(int(t[0])), denoise(x, t))[1]
    x = p.sample((), steps=4)
    assert x.shape == (3, 1, 4, 4)
    assert set((x * 3).flatten().tolist()) <= {0.0, 1.0, 2.0, 3.0}
    assert visited == [11, 7, 4]


@pytest.mark.parametrize("settings", [{"steps": 1}, {"clear": -9.0}])
def test_levels_that_do_not_fall_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"likelihood\.steps"):
        Diffusion((2,), SPEC, **settings)


PART = {
    "class_path": "vaebench.likelihoods.diffusion.Diffusion",
    "init_args": {"steps": 5, "channels": 4, "levels": 1},
}


def test_a_report_gives_the_bound_under_its_own_name_with_its_terms() -> None:
    model = small("vae", SPEC, likelihood=PART)
    report = evaluate(model, Data(bits(20)), "likelihood", k=30, progress=False, measurements={"diffusion": {}})
    terms = [report.metrics[f"diffusion_{name}"] for name in ("prior", "steps", "reconstruction", "bound")]
    values = [term.value for term in terms]
    assert values[3] == pytest.approx(-sum(values[:3]))
    assert "T = 5" in report.metrics["log_likelihood"].definition
    assert {"diffusion_samples_5", "diffusion_samples_2"} <= set(report.pictures)
    spread = 4 * math.hypot(terms[3].se, report.metrics["distortion"].se)
    assert values[3] == pytest.approx(-report.metrics["distortion"].value, abs=spread)


COUNTED = ("iwae", "ciwae", "dreg", "two_layer_vae", "miwae", "piwae")


@pytest.mark.parametrize("name", [*COUNTED, "stratified_vae"])
def test_what_weighs_samples_refuses_a_score_that_stands_in_the_mean_alone(name: str) -> None:
    """Defect: with gradients L_50 was −2 where it was −59 without: lucky draws of one t took all the weight."""
    many, one = ({"k": 2}, {"k": 1, "m": 1} if name == "piwae" else {"k": 1})
    if name == "stratified_vae":
        many, one = {"importance": True}, {"importance": False}
    with pytest.raises(UserError, match=r"weighs samples of z by p\(x\|z\), for which the score that Diffusion learns"):
        small(name, likelihood=PART, **many)
    small(name, likelihood=PART, **one)


def test_every_family_with_a_bound_of_many_samples_was_asked() -> None:
    takes = {name for name, family in families().items() if "k" in signature(family).parameters}
    assert takes - {"encoder_steps_vae"} == set(COUNTED)


def test_chains_are_refused_where_gradients_stand_in_the_mean_alone() -> None:
    """Defect: chains kept lucky draws, and an "AIS lower bound" lay 115 nats above the estimate."""
    plan = {"ais": {}, "gaps": {}}
    report = evaluate(small("vae", SPEC, likelihood=PART), Data(bits(3)), "likelihood", k=5, measurements=plan)
    for name in ("log_likelihood_ais", "inference_gap"):
        assert "only in the mean" in report.metrics[name].unavailable


def test_an_image_s_bound_does_not_depend_on_how_the_work_is_cut() -> None:
    """Defect: paths had the noise of the piece that they were scored in."""
    model, x = small("vae", SPEC, likelihood=PART), bits(5)
    whole = log_likelihood(model, x, 50)
    torch.testing.assert_close(log_likelihood(model, x, 50, chunk=7), whole)
    torch.testing.assert_close(log_likelihood(model, x[3:].flip(0), 50), whole[3:].flip(0))
    point = small("wae_mmd", SPEC, likelihood=PART, posterior=tiny(POSTERIORS["Delta"]))
    with evaluation_mode(point, torch.device("cpu")):
        distortion = sampled_distortion(point, x, 3)
        torch.testing.assert_close(sampled_distortion(point, x[3:].flip(0), 3), distortion[3:].flip(0))


def test_a_conditional_model_has_the_bound_and_the_noise_of_its_decoder() -> None:
    """Defect: what the decoder declares was not found behind the labels."""
    model, x, y = small("cvae", SPEC, likelihood=PART), bits(5), labels(5)
    whole = log_likelihood(model, x, 20, labels=y)
    torch.testing.assert_close(log_likelihood(model, x[3:].flip(0), 20, labels=y[3:].flip(0)), whole[3:].flip(0))
    report = evaluate(model, Labelled(x, y), "likelihood", k=5, progress=False)
    assert "T = 5" in report.metrics["log_likelihood"].definition
    assert any("in place of log p(x|z)" in warning for warning in report.warnings)
    assert report.tables["likelihood"]["steps"] == 5


def test_other_decoders_have_no_diffusion_to_measure() -> None:
    report = evaluate(small("vae"), Data(bits(4)), "likelihood", k=5, progress=False, measurements={"diffusion": {}})
    assert report.metrics["diffusion_bound"].unavailable == "the likelihood, Bernoulli, is no diffusion"
