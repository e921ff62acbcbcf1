"""Conditional models: they are told each image's label in training and evaluation, or say that there are none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conditional_models import Labelled
from helpers import NET, PRIORS, bits, labels, small, tiny
from torch import Tensor, nn
from torch.distributions import Distribution

import vaebench as vb
from vaebench.cli import main
from vaebench.core import DataSpec, Family, Given, Step, draw
from vaebench.distributions import DiagonalNormal
from vaebench.errors import UserError
from vaebench.evaluation.conditions import Conditioned, evaluation_mode, for_images
from vaebench.evaluation.estimators.draws import sample_posterior
from vaebench.evaluation.estimators.likelihood import estimate

PLAN = {"likelihood": {"k": 20}, "units": {}, "collapse": {}, "reconstruction": {}, "samples": {}}


class Shifted(Family):
    """z ~ N(0, 1), x_d|z, y ~ N(z + y, 1) with the exact posterior: log p(x|y) is a Gaussian's, N(y, 11ᵀ + I)."""

    def __init__(self) -> None:
        super().__init__(DataSpec((1, 1, 3), "continuous"), latent=1)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        raise NotImplementedError

    def given(self, y: Tensor | None) -> Given:
        assert y is not None
        shift = y[:, None].double()
        one = torch.ones(1).double()

        def posterior(x: Tensor) -> Distribution:
            mean = (x.flatten(1) - shift).sum(1, keepdim=True) / 4
            return DiagonalNormal(mean, torch.full_like(mean, 0.5))

        def likelihood(z: Tensor) -> Distribution:
            return DiagonalNormal((z + shift).expand(*z.shape[:-1], 3).unflatten(-1, (1, 1, 3)), one.expand(1, 1, 3), 3)

        return Given(posterior, lambda: DiagonalNormal(one - 1, one), likelihood)


def _exact(x: Tensor, y: Tensor) -> Tensor:
    covariance = torch.ones(3, 3).double() + torch.eye(3).double()
    mean = y[:, None].double().expand(-1, 3)
    return torch.distributions.MultivariateNormal(mean, covariance).log_prob(x.flatten(1))


def test_the_likelihood_given_labels_is_exact_however_the_images_are_cut() -> None:
    x, y = torch.rand(23, 1, 1, 3, generator=torch.Generator().manual_seed(0)).double(), labels(23)
    model = Shifted().double()
    assert torch.allclose(vb.log_likelihood(model, x, k=7, labels=y), _exact(x, y), atol=1e-9)
    with evaluation_mode(model, torch.device("cpu")):
        for batch in (1, 5, 23):
            found = estimate(Conditioned(model, y), x, 7, batch=batch).log_likelihood
            assert torch.allclose(found, _exact(x, y), atol=1e-9)
    assert not torch.allclose(vb.log_likelihood(model, x, k=7, labels=y.roll(1)), _exact(x, y), atol=0.1)


def test_every_image_keeps_its_label_in_every_measurement() -> None:
    """One wrong pairing anywhere would change the order-free figures when images are put into another order."""
    model, x, y = small("cvae").float(), bits(60).float(), labels(60)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    reports = [
        vb.evaluate(model, Labelled(images, own), measurements=PLAN) for images, own in ((x, y), (x[order], y[order]))
    ]
    for name in ("log_likelihood", "elbo", "rate", "distortion", "mse", "active_units"):
        values = [report.metrics[name].value for report in reports]
        assert values[0] is not None, name
        assert values[0] == pytest.approx(values[1], abs=1e-4), name
    assert torch.allclose(torch.tensor(reports[0].per_image["mse"])[order], torch.tensor(reports[1].per_image["mse"]))
    wrong = vb.evaluate(model, Labelled(x, y.roll(1)), measurements=PLAN)
    assert wrong.metrics["distortion"].value != pytest.approx(reports[0].metrics["distortion"].value, abs=1e-4)


def test_a_report_says_that_its_figures_are_conditional() -> None:
    model, data = small("cvae").float(), Labelled(bits(40).float(), labels(40))
    report = vb.evaluate(model, data, measurements=PLAN)
    assert report.protocol["given"] == "labels"
    assert any(r"log p(x|y), not of log p(x)" in warning for warning in report.warnings)
    rows = {name: report.pictures[name].shape[0] for name in ("samples", "reconstructions")}
    plain = vb.evaluate(small("vae").float(), data, measurements=PLAN)
    assert "given" not in plain.protocol
    assert rows["samples"] < plain.pictures["samples"].shape[0], "a row for each of three classes, not eight"


def test_what_cannot_be_told_labels_says_so() -> None:
    plan = {**dict.fromkeys(PLAN), "holes": {}, "gaps": {}, "aggregate": {}, "fidelity": {}}
    report = vb.evaluate(small("cvae").float(), Labelled(bits(8).float(), labels(8)), measurements=plan)
    assert report.metrics
    for metric in report.metrics.values():
        assert metric.value is None
        assert "does not support the labels of a conditional model" in metric.unavailable


@pytest.mark.parametrize("family", ["cvae", "auxiliary_vae"])
def test_labels_without_a_class_are_refused_before_training(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: CVAE trained as if these images had no label, and the other ended in torch's traceback."""
    args = ["fit", "--data=digits", f"--model={family}", "--model.latent=2", "--model.classes=5", f"--out={tmp_path}"]
    assert main([*args, "--trainer.max_steps=2"]) == 2
    assert "has 5 classes, and the labels of the train images of digits are 0 to 9: expected 0 to 4" in (
        capsys.readouterr().err
    )


def test_data_without_labels_is_refused_in_a_sentence() -> None:
    model, x = small("cvae").float(), bits(4).float()
    with pytest.raises(UserError, match=r"^CVAE is given labels and the data has none; choose a data set with labels$"):
        model.step(x, None, torch.tensor(0.0))
    with pytest.raises(UserError, match=r"^CVAE is given labels and the data has none"):
        model.held_out(x, None, torch.tensor(0.0), seed=0)
    with pytest.raises(UserError, match=r"^CVAE is conditional on labels, and the test images have none; eval"):
        vb.evaluate(model, Labelled(x, None))
    with pytest.raises(UserError, match=r"^CVAE is conditional on labels, and there are none for 4 images; give one"):
        vb.log_likelihood(model, x)


@pytest.mark.parametrize("prior", ["vamp.VampPrior", "exemplar.ExemplarPrior"])
def test_a_prior_at_codes_of_images_is_refused(prior: str) -> None:
    """Defect: its "training images" were noise, since no label was known to encode them with."""
    kind = prior.split(".")[1]
    with pytest.raises(UserError, match=rf"^CVAE encodes an image with its label, and {kind} stands at codes of"):
        small("cvae", prior=tiny(PRIORS[prior]))
    small("cvae", prior=tiny(PRIORS[prior]), prior_of_class=True)


def test_the_model_for_other_images_than_asked_about_is_refused() -> None:
    model = Conditioned(small("cvae"), labels(6))
    with pytest.raises(RuntimeError, match="3 images meet 6 labels"):
        model.posterior(bits(3))
    assert for_images(model, slice(2, 5)).posterior(bits(3)).batch_shape == (3,)
    assert sample_posterior(model, bits(6), 4).shape == (4, 6, 2)


@pytest.mark.parametrize("prior_of_class", [False, True])
def test_encoder_decoder_and_if_wanted_prior_see_the_label(prior_of_class: bool) -> None:
    model, x = small("cvae", prior_of_class=prior_of_class), bits(1)
    if prior_of_class:
        nn.init.normal_(model.prior.loc)
    first, second = (model.given(torch.tensor([label])) for label in (0, 1))
    z = torch.zeros(1, 1, 2).double()
    assert not torch.allclose(first.posterior(x).mean, second.posterior(x).mean)
    assert not torch.allclose(first.likelihood(z).mean, second.likelihood(z).mean)
    assert torch.equal(first.prior().mean.flatten(), second.prior().mean.flatten()) is not prior_of_class
    loss = model.step(bits(8), labels(8), torch.tensor(0.0)).losses["model"]
    assert all(g is not None for g in torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))
    log_w = draw(model.given(labels(8)), bits(8), 3).log_w
    assert log_w.shape == (3, 8)


def test_a_conditional_model_is_fitted_and_evaluated_from_the_command_line(tmp_path: Path) -> None:
    net = [f"--model.posterior.net={NET['class_path']}", "--model.posterior.net.width=8", "--trainer.max_epochs=1"]
    family = ["--model=cvae", "--model.posterior=vaebench.posteriors.DiagonalGaussian", *net, "--model.latent=2"]
    assert main(["fit", "--data=digits", *family, "--trainer.accelerator=cpu", f"--out={tmp_path}/run"]) == 0
    (checkpoint,) = tmp_path.glob("run/*/model.ckpt")
    assert main(["evaluate", str(checkpoint), "--k=10", f"--results={tmp_path}/results"]) == 0
    (record,) = vb.read_records(tmp_path / "results")
    assert record.protocol["given"] == "labels"
    assert record.value("log_likelihood") is not None
