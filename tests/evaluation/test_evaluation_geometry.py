"""The decoder's geometry against linear algebra, a circle and finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import LAWFUL, bits, small
from oracles import Channels, Data, LinearGaussian, Parts, without
from torch import Tensor
from torch.distributions import OneHotCategorical

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.distributions import DiagonalNormal
from vaebench.evaluation.conditions import is_conditional
from vaebench.evaluation.estimators import geometry
from vaebench.evaluation.measurements import geometry as measurement

FIGURES = set(measurement.KINDS)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _report(model: object, x: Tensor, measure: str = "continuous", **settings: int) -> vb.Report:
    alone = dict.fromkeys(("units", "collapse", "reconstruction", "samples", "likelihood"))
    data = Data(x, DataSpec(tuple(x.shape[1:]), measure), torch.zeros(len(x), dtype=torch.long))
    return vb.evaluate(model, data, measurements={**alone, "geometry": settings})


# The Jacobian -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_linear_decoder_has_its_matrix_everywhere(dtype: torch.dtype) -> None:
    weight = torch.randn(7, 3, dtype=dtype)
    found = geometry.jacobian(lambda z: z @ weight.T + 1, torch.randn(5, 3, dtype=dtype))
    torch.testing.assert_close(found, weight.expand(5, 7, 3))
    metric = geometry.metric(found)
    exact = torch.linalg.svdvals(weight).double()
    torch.testing.assert_close(geometry.singular_values(metric)[0], exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(geometry.frobenius_norm(metric)[0], weight.double().norm(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("net", ["MLP", "Conv", "ResNet"])
def test_it_is_the_limit_of_finite_differences(net: str) -> None:
    part = {"class_path": "vaebench.likelihoods.Bernoulli", "init_args": {"net": f"vaebench.networks.{net}"}}
    model = small("vae", DataSpec((1, 8, 8)), latent=3, likelihood=part).eval()
    decode = geometry.decoder(model, torch.Size((3,)))
    z, step = torch.randn(4, 3, dtype=torch.float64), 1e-5
    found = geometry.jacobian(decode, z)
    with torch.no_grad():
        for j in range(3):
            by = torch.zeros(3, dtype=torch.float64)
            by[j] = step
            torch.testing.assert_close(
                found[..., j], (decode(z + by) - decode(z - by)) / (2 * step), rtol=1e-6, atol=1e-8
            )


def test_it_can_be_had_in_inference_mode_and_leaves_no_graph() -> None:
    model = small("vae").eval()
    with torch.inference_mode():
        found = geometry.jacobian(geometry.decoder(model, torch.Size((2,))), torch.zeros(3, 2, dtype=torch.float64))
    assert not found.requires_grad
    assert found.abs().sum() > 0


# One code ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("equal", [1, 3, 5])
def test_participation_counts_equal_directions(equal: int) -> None:
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    metric = turn @ torch.diag((torch.arange(5) < equal) * 2.0).double() @ turn.T
    assert float(geometry.participation(metric[None])) == pytest.approx(equal)


def test_orthogonal_columns_have_no_cosine_and_no_contrast() -> None:
    columns = torch.linalg.qr(torch.randn(9, 4, dtype=torch.float64))[0] * torch.tensor([1.0, 10, 0.1, 3])
    metric = geometry.metric(columns[None])
    assert float(geometry.cosines(metric)) == pytest.approx(0, abs=1e-12)
    assert float(geometry.contrast(metric)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("angle", [math.pi / 3, 2 * math.pi / 3, 0.1])
def test_two_columns_by_their_angle_at_any_length(angle: float) -> None:
    columns = torch.tensor([[2.0, 5 * math.cos(angle)], [0.0, 5 * math.sin(angle)]], dtype=torch.float64)
    metric = geometry.metric(columns[None])
    assert float(geometry.cosines(metric)) == pytest.approx(abs(math.cos(angle)))
    assert float(geometry.contrast(metric)) == pytest.approx(-math.log(math.sin(angle)))


def test_random_columns_are_nearly_orthogonal() -> None:
    metric = geometry.metric(torch.randn(20, 784, 10, dtype=torch.float64))
    assert float(geometry.cosines(metric).mean()) == pytest.approx(math.sqrt(2 / (math.pi * 784)), rel=0.05)


def test_the_contrast_by_its_own_formula() -> None:
    columns = torch.randn(6, 12, 4, dtype=torch.float64)
    exact = columns.norm(dim=1).log().sum(-1) - 0.5 * torch.linalg.slogdet(columns.mT @ columns)[1]
    torch.testing.assert_close(geometry.contrast(geometry.metric(columns)), exact)


def test_a_column_of_zeros_has_no_angle() -> None:
    columns = torch.tensor([[[1.0, 0], [1, 0]], [[1, 0], [0, 1]]])
    for figure in (geometry.cosines, geometry.contrast):
        found = figure(geometry.metric(columns))
        assert math.isnan(found[0])
        assert found[1] == 0


def test_sparsity_between_one_pixel_and_all_of_them() -> None:
    columns = torch.tensor([[0, -2, 1], [0, 2, 1], [3, 2, 0], [0, -2, 0]], dtype=torch.float64)
    assert geometry.sparsity(columns[None])[0].tolist() == pytest.approx([1, 0, 2 - math.sqrt(2)])


# Between two codes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [2, 5, 400])
def test_the_arc_of_a_circle_by_its_inscribed_polygon(steps: int) -> None:
    radius, start, stop = 0.4, torch.tensor([[-0.5], [0.3]]).double(), torch.tensor([[2.0], [0.4]]).double()
    arc = (stop - start).squeeze()
    found = geometry.path(lambda z: radius * torch.cat([z.cos(), z.sin()], -1), start, stop, steps)
    torch.testing.assert_close(found.length, 2 * radius * steps * torch.sin(arc / (2 * steps)))
    torch.testing.assert_close(found.chord, 2 * radius * torch.sin(arc / 2))
    torch.testing.assert_close(found.turning, arc * (steps - 1) / steps, rtol=1e-9, atol=0)


def test_there_and_back_turns_by_half_a_circle() -> None:
    found = geometry.path(lambda z: (z - 0.5).abs(), torch.zeros(1, 1).double(), torch.full((1, 1), 1.5).double(), 3)
    assert float(found.turning) == pytest.approx(math.pi)
    assert float(found.length / found.chord) == pytest.approx(3)


# The measurement --------------------------------------------------------------------------------------------------


def test_the_gaussian_oracle_by_its_matrix() -> None:
    model = LinearGaussian(orthogonal=True)
    found = _report(model, model.images(40), images=7, pairs=9)
    exact = torch.tensor([1.5, 0.8, 0.3], dtype=torch.float64)
    value = {name: metric.value for name, metric in found.metrics.items()}
    assert found.tables["jacobian_spectrum"]["singular_values"] == pytest.approx(exact.tolist())
    assert found.tables["jacobian_spectrum"]["sd"] == pytest.approx([0, 0, 0], abs=1e-12)
    assert found.units["jacobian_norm"] == pytest.approx(exact.tolist())
    assert value["jacobian_norm"] == pytest.approx(float(exact.norm()))
    assert value["jacobian_rank"] == pytest.approx(float(exact.square().sum() ** 2 / exact.pow(4).sum()))
    assert value["jacobian_condition"] == pytest.approx(math.log10(5))
    assert value["column_cosine"] == pytest.approx(0, abs=1e-7)
    assert value["ima_contrast"] == pytest.approx(0, abs=1e-7)
    assert value["path_stretch"] == pytest.approx(1)
    assert value["path_turning"] == pytest.approx(0, abs=1e-5)
    assert {name: metric.n for name, metric in found.metrics.items()} == {
        name: 9 if name.startswith("path") else 7 for name in FIGURES
    }
    assert found.metrics["column_cosine"].definition == (
        "mean |cos| between the columns (Rolinek et al. 2019), 0 if orthogonal, of J = ∂E[x|z]/∂z at the posterior "
        "mean, 7 of the images; 3 of 3 units: those with Var_x(E_q[z]) > 0.01 that the decoder reads"
    )
    assert found.per_image == {}  # figures of some images are not kept beside those of all


def test_it_does_not_depend_on_how_the_work_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = small("vae"), bits(20)
    whole = _report(model, x, "binary").metrics
    monkeypatch.setattr(measurement, "VALUES", 1)
    alone = _report(model, x, "binary").metrics
    for name in FIGURES:
        assert alone[name].value == pytest.approx(whole[name].value, rel=1e-9)


def test_a_unit_that_carries_nothing_is_not_compared() -> None:
    """Its column would have any direction: 0/0."""
    model = Channels([1, 1, 1, 0], [1, 1, 0, 0])
    found = _report(model, model.images(60), "binary")
    assert "2 of 4 units" in found.metrics["column_cosine"].definition
    assert found.metrics["column_cosine"].value == 0
    assert found.metrics["column_sparsity"].value == pytest.approx(1)
    assert found.units["jacobian_norm"][2:] == [0, 0]
    assert found.units["jacobian_norm"][0] == pytest.approx(4 / (2 + 2 * math.cosh(4)))  # of σ(4 z) at z = ±1


def test_latents_of_any_shape() -> None:
    flat = LinearGaussian(latent=4)

    def posterior(x: Tensor) -> torch.distributions.Distribution:
        mean = flat.posterior(x).mean.unflatten(-1, (2, 2))
        return DiagonalNormal(mean, torch.ones_like(mean), 2)

    zeros = torch.zeros(2, 2, dtype=torch.float64)
    model = Parts(posterior, lambda: DiagonalNormal(zeros, zeros + 1, 2), lambda z: flat.likelihood(z.flatten(-2)))
    found = _report(model, flat.images(20))
    exact = torch.linalg.svdvals(flat.weight).tolist()
    assert found.tables["jacobian_spectrum"]["singular_values"] == pytest.approx(exact)
    assert found.metrics["path_stretch"].value == pytest.approx(1)


# Reasons ----------------------------------------------------------------------------------------------------------


def test_a_likelihood_without_a_mean_has_no_geometry() -> None:
    model = without(LinearGaussian(orthogonal=True), likelihood="mean")
    found = _report(model, LinearGaussian().images(6))
    assert {name for name in FIGURES if "no mean in closed form" in found.metrics[name].unavailable} == FIGURES


def test_an_operation_without_a_forward_derivative_is_a_reason() -> None:
    inner = LinearGaussian(orthogonal=True)
    far = torch.zeros(1, 3, dtype=torch.float64)

    def likelihood(z: Tensor) -> torch.distributions.Distribution:
        return inner.likelihood(z * torch.cdist(z, far))

    found = _report(Parts(inner.posterior, inner.prior, likelihood), inner.images(6))
    assert "forward AD" in found.metrics["jacobian_norm"].unavailable
    assert found.tables == {}


def test_a_jacobian_that_is_not_finite_names_its_image() -> None:
    """Its eigenvalues raised an error of linear algebra."""
    inner = LinearGaussian(orthogonal=True)
    x = inner.images(9)
    x[4] = 0

    def posterior(x: Tensor) -> torch.distributions.Distribution:
        q = inner.posterior(x)
        return DiagonalNormal(q.mean * x.flatten(1).any(1, keepdim=True), q.stddev)

    model = Parts(posterior, inner.prior, lambda z: inner.likelihood(z.abs().sqrt()))
    found = _report(model, x)
    for name in measurement.OF_JACOBIAN:
        assert found.metrics[name].unavailable == "the Jacobian is not finite at the code of image 4"
    assert found.metrics["path_turning"].value > 0


def test_codes_without_a_neighbourhood_have_no_geometry() -> None:
    class Digits(OneHotCategorical):
        mean = property(lambda self: self.probs.argmax(-1))

    inner = LinearGaussian()
    model = Parts(lambda x: Digits(logits=inner.posterior(x).mean), inner.prior, inner.likelihood)
    found = _report(model, inner.images(6))
    assert found.metrics["jacobian_norm"].unavailable == "codes of type torch.int64 have no neighbourhood"


def test_without_a_mean_a_sample_is_the_code_and_no_unit_is_known_to_be_active() -> None:
    model = LinearGaussian(orthogonal=True)
    found = _report(without(model, posterior="mean"), model.images(6))
    assert "at one sample of the posterior, 6 of the images" in found.metrics["jacobian_norm"].definition
    assert found.metrics["jacobian_norm"].value == pytest.approx(math.sqrt(1.5**2 + 0.8**2 + 0.3**2))
    assert "no mean" in found.metrics["column_cosine"].unavailable


def test_one_image_makes_no_pair() -> None:
    found = _report(small("vae"), bits(1), "binary")
    assert found.metrics["path_stretch"].unavailable == "one image makes no pair"
    assert found.metrics["column_cosine"].unavailable == "one image has no variance"
    assert found.metrics["jacobian_norm"].value > 0


def test_one_piece_has_no_angle() -> None:
    found = _report(small("vae"), bits(4), "binary", steps=1)
    assert found.metrics["path_stretch"].value == pytest.approx(1)
    assert found.metrics["path_turning"].unavailable == "one piece alone has no angle"


@pytest.mark.parametrize("name", LAWFUL)
def test_every_family_has_a_geometry(name: str) -> None:
    model = small(name)
    x = model.data.mean.expand(6, 1, 4, 4).bernoulli() if model.data.measure == "binary" else torch.rand(6, 1, 4, 4)
    found = _report(model, x, model.data.measure)
    for figure in FIGURES - set(measurement.OF_LIVE):
        metric = found.metrics[figure]
        if is_conditional(model):
            assert "conditional" in metric.unavailable
        elif getattr(model.posterior, "discrete", False) and metric.value is None:
            assert "the same image" in metric.unavailable, "two images may take one code"
        else:
            assert metric.value >= 0


def test_a_decoder_that_reads_nothing_draws_no_line() -> None:
    model = Channels([1, 1], [0, 0])
    found = _report(model, model.images(10), "binary")
    assert "the same image" in found.metrics["path_turning"].unavailable
    assert "fewer than two units" in found.metrics["column_cosine"].unavailable
    assert found.metrics["jacobian_norm"].value == 0
    assert found.metrics["jacobian_rank"].unavailable.startswith("it is not finite")


def test_fewer_pixels_than_latents_have_no_condition() -> None:
    """Rounding left a smallest singular value of 1e-9, and a condition and a contrast made of it."""
    model = LinearGaussian((1, 1, 2), latent=3)
    found = _report(model, model.images(8))
    exact = torch.linalg.svdvals(model.weight).tolist()
    assert found.tables["jacobian_spectrum"]["singular_values"] == pytest.approx(exact)
    for name in ("jacobian_condition", "ima_contrast"):
        assert found.metrics[name].unavailable == "it is not finite for image 0"
