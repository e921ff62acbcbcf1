"""The gated PixelCNN: what a pixel sees, that sampling is scoring, that keeping what was computed changes nothing."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import scipy.stats
import torch
from helpers import SPEC, bits, small
from oracles import Data
from torch import Tensor

from vaebench.core import DataSpec
from vaebench.errors import UserError
from vaebench.evaluation import evaluate
from vaebench.likelihoods.autoregressive import PixelCNN
from vaebench.networks.pixelcnn import GatedPixelCNN

DOUBLE = torch.float64


def net(image: tuple[int, int, int] = (2, 7, 6), outputs: int = 3, **settings: Any) -> GatedPixelCNN:
    torch.manual_seed(0)
    return GatedPixelCNN(image, outputs, (2,), channels=16, **{"layers": 3, "kernel": 3, **settings}).double()


def seen(model: GatedPixelCNN, row: int, column: int) -> Tensor:
    """Which pixels the outputs at one pixel depend on, (h, w), by gradients at random images."""
    x = torch.randn(8, *model.inputs, dtype=DOUBLE, requires_grad=True)
    out = model(x, torch.randn(8, 2, dtype=DOUBLE))[:, :, row, column].sum()
    return torch.autograd.grad(out, x)[0].abs().sum((0, 1)) > 0


@pytest.mark.parametrize(
    "settings", [{}, {"layers": 1}, {"kernel": 5, "layers": 2}, {"wide": 1}, {"wide": 2, "layers": 4}]
)
def test_a_pixel_sees_all_pixels_before_it_within_reach_and_no_other(settings: dict[str, int]) -> None:
    model = net(**settings)
    _, height, width = model.inputs
    for row, column in itertools.product(range(height), range(width)):
        expected = torch.zeros(height, width, dtype=torch.bool)
        left, right = max(0, column - model.reach), column + model.reach + 1
        expected[max(0, row - model.reach) : row, left:right] = True
        expected[row, left:column] = True
        assert torch.equal(seen(model, row, column), expected), (row, column)


@pytest.mark.parametrize("settings", [{}, {"layers": 1}, {"kernel": 5, "wide": 1}])
def test_the_latent_speaks_at_every_pixel(settings: dict[str, int]) -> None:
    model, z = net(**settings), torch.randn(8, 2, dtype=DOUBLE, requires_grad=True)
    outputs = model(torch.randn(8, *model.inputs, dtype=DOUBLE), z)
    for out in outputs.sum(0).flatten():
        assert torch.autograd.grad(out, z, retain_graph=True)[0].abs().sum() > 0


@pytest.mark.parametrize("latent", [True, False])
@pytest.mark.parametrize("settings", [{}, {"layers": 1}, {"kernel": 5, "layers": 4, "wide": 2}])
def test_outputs_while_sampling_are_those_of_the_whole_finished_image(settings: dict[str, int], latent: bool) -> None:
    model = net(**settings) if latent else GatedPixelCNN((2, 7, 6), 3, channels=4, **settings).double()
    z, outputs = torch.randn(5, 2, dtype=DOUBLE) if latent else None, []

    def draw(parameters: Tensor) -> Tensor:
        outputs.append(parameters)
        return torch.randn(5, 2, 1, 1, dtype=DOUBLE) + parameters[:, :2]

    with torch.no_grad():
        x = model.sample(draw, 5, z)
        whole = model(x, z)
    torch.testing.assert_close(torch.cat(outputs, -1).view_as(whole), whole)


def every_image(shape: tuple[int, int, int], levels: int) -> Tensor:
    values = [j / (levels - 1) for j in range(levels)]
    return torch.tensor(list(itertools.product(values, repeat=DataSpec(shape).dimensions)), dtype=DOUBLE).view(
        -1, *shape
    )


CASES = [("binary", (1, 3, 3), 2), ("binary", (2, 2, 2), 2), ("discrete3", (2, 1, 2), 3), ("discrete4", (1, 2, 2), 4)]


@pytest.mark.parametrize(("measure", "shape", "levels"), CASES)
def test_the_probabilities_of_all_images_sum_to_one_and_are_the_frequencies_of_samples(
    measure: str, shape: tuple[int, int, int], levels: int
) -> None:
    torch.manual_seed(0)
    mean = torch.full(shape, 0.4)
    likelihood = PixelCNN((2,), DataSpec(shape, measure, mean), channels=6, layers=2, kernel=3).double()
    for parameter in likelihood.net.parameters():
        parameter.data.mul_(1.5)  # so that pixels depend on one another
    x, z = every_image(shape, levels), torch.tensor([[0.4, -1.1]], dtype=DOUBLE)
    with torch.no_grad():
        p = likelihood(z)
        masses = p.log_prob(x).exp()
        assert float(masses.sum()) == pytest.approx(1, abs=1e-10)
        drawn = p.sample((20_000,))[:, 0].flatten(1)
    index = (drawn * (levels - 1)).round().long() @ (levels ** torch.arange(drawn.shape[1] - 1, -1, -1))
    counts = torch.bincount(index, minlength=len(x)).double()
    often = masses * 20_000 > 5
    kept, expected = counts[often].numpy(), masses[often].numpy()
    assert scipy.stats.chisquare(kept, expected * kept.sum() / expected.sum()).pvalue > 1e-4
    independent = torch.stack([drawn.mean(0).where(v > 0, 1 - drawn.mean(0)).prod() for v in x.flatten(1)])
    if levels == 2:
        assert float((masses - independent).abs().sum()) > 0.02, "the test can tell an autoregressive model"


def test_a_colour_s_green_sees_its_own_red() -> None:
    """Within a pixel channels come one after the other, though the network reads whole pixels."""
    torch.manual_seed(0)
    likelihood = PixelCNN((2,), DataSpec((3, 1, 1), "discrete8"), channels=4, layers=1, kernel=3).double()
    x = torch.rand(1, 3, 1, 1, dtype=DOUBLE, requires_grad=True)
    p = likelihood(torch.randn(1, 2, dtype=DOUBLE)).log_prob(x)
    assert torch.autograd.grad(p.sum(), x)[0].abs().min() > 0


@pytest.mark.parametrize("settings", [{"kernel": 4}, {"kernel": 1}, {"wide": 0}, {"wide": 4}, {"layers": 0}])
def test_networks_that_see_nothing_or_have_no_middle_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(UserError, match="kernel, wide and layers"):
        net(**settings)


PIXELCNN = {
    "class_path": "vaebench.likelihoods.autoregressive.PixelCNN",
    "init_args": {"channels": 4, "layers": 2, "kernel": 3, "context": 2},
}


def test_evaluation_copes_with_a_decoder_without_a_mean() -> None:
    model = small("vae", SPEC, likelihood=PIXELCNN).float()
    report = evaluate(model, Data(bits(12).float()), "likelihood", k=30, progress=False)
    reason = "the likelihood, Autoregressive, has no mean in closed form"
    for name in ("mse", "psnr", "ssim"):
        assert report.metrics[name].unavailable == reason
    for name in ("log_likelihood", "elbo", "rate", "distortion"):
        assert report.metrics[name].value is not None
    assert report.tables["likelihood"] == {"name": "PixelCNN", "reach": 2}
    assert report.pictures["samples"].ndim == 3, "samples are drawn where there is no mean"


def test_the_estimate_does_not_depend_on_how_few_samples_are_scored_at_once() -> None:
    from vaebench import log_likelihood

    model, x = small("vae", SPEC, likelihood=PIXELCNN).float(), bits(6).float()
    assert torch.allclose(log_likelihood(model, x, 40), log_likelihood(model, x, 40, chunk=7), atol=1e-4)
