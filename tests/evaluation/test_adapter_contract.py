"""An adapter that is wrong is refused with a sentence before anything is averaged, and right ones pass unchanged.

    python tests/evaluation/test_adapter_contract.py

writes the table of docs/your-model.md anew: everything that is tried here, with what is said of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracles import Data
from torch import Tensor, nn
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import (
    Beta,
    Binomial,
    ContinuousBernoulli,
    Distribution,
    Independent,
    MixtureSameFamily,
    Normal,
    OneHotCategorical,
    constraints,
)
from torch.distributions import Categorical as TorchCategorical

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.distributions import Bernoulli, Delta, DiagonalNormal, DiscretisedLogistic
from vaebench.distributions import Normal as OwnNormal
from vaebench.errors import Unavailable, UserError

LATENT, SHAPE = 5, (2, 4, 3)
PIXELS = 24
BITS = (torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0)) < 0.4).float()
GREY = (torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1)) * 255).round() / 255
ALONE = dict.fromkeys(("units", "collapse", "reconstruction", "samples"))


class Adapter(nn.Module):
    """A right one; a test puts something wrong in the place of a part."""

    def __init__(self, **parts: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = nn.Linear(PIXELS, 2 * LATENT), nn.Linear(LATENT, PIXELS)
        self.parts = parts

    def posterior(self, x: Tensor) -> Any:
        if part := self.parts.get("posterior"):
            return part(self, x)
        mean, log_scale = self.encode(x)
        return DiagonalNormal(mean, log_scale.exp())

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = self.encoder(x.flatten(1)).chunk(2, -1)
        return mean, log_scale

    def prior(self) -> Any:
        if part := self.parts.get("prior"):
            return part(self)
        return DiagonalNormal(torch.zeros(LATENT), torch.ones(LATENT))

    def logits(self, z: Tensor) -> Tensor:
        return self.decoder(z).unflatten(-1, SHAPE)

    def likelihood(self, z: Tensor) -> Any:
        if part := self.parts.get("likelihood"):
            return part(self, z)
        return Bernoulli(self.logits(z), 3)


class Scored(Distribution):
    """Pixels whose log_prob is whatever a test makes of those of a Bernoulli."""

    def __init__(self, logits: Tensor, score: Callable[[Tensor], Any]) -> None:
        self.logits, self.score = logits, score
        super().__init__(logits.shape[:-3], logits.shape[-3:], validate_args=False)

    support = constraints.boolean

    def log_prob(self, value: Tensor) -> Any:
        return self.score(TorchBernoulli(logits=self.logits).log_prob(value.expand_as(self.logits)))


def scored(score: Callable[[Tensor], Any]) -> dict[str, Callable[..., Any]]:
    return {"likelihood": lambda m, z: Scored(m.logits(z), score)}


def grey_normal(m: Adapter, z: Tensor) -> Distribution:
    return DiagonalNormal(m.logits(z).sigmoid(), torch.ones(SHAPE), 3)


def by_conv(_: Adapter, z: Tensor) -> Any:
    return nn.functional.conv_transpose2d(z.unflatten(-1, (5, 1, 1)), torch.ones(5, 2, 4, 3))


WRONG: dict[str, tuple[dict[str, Any], Tensor, str, str]] = {
    # latents
    "no prior": ({}, BITS, "binary", "Adapter has no method 'prior'"),
    "posterior is a tuple": ({"posterior": lambda m, x: m.encode(x)}, BITS, "binary", "is a tuple, where a torch.dist"),
    "posterior is a tensor": ({"posterior": lambda m, x: m.encode(x)[0]}, BITS, "binary", "is a Tensor, where"),
    "posterior over units": ({"posterior": lambda m, x: OwnNormal(m.encode(x)[0], m.encode(x)[1].exp())}, BITS,
                             "binary", r"batch shape \(3, 5\) .*one distribution an image.*Independent"),
    "posterior of the whole batch": ({"posterior": lambda m, x: DiagonalNormal(*(t.exp() for t in m.encode(x)), 2)},
                                     BITS, "binary", r"batch shape \(\) and event shape \(3, 5\)"),
    "posterior fails": ({"posterior": lambda m, x: m.encoder(x)}, BITS, "binary", "posterior.x. of 3 images fails"),
    "posterior of scale 0 / 0": ({"posterior": lambda m, x: DiagonalNormal(m.encode(x)[0], m.encode(x)[0] * torch.nan)},
                                 BITS, "binary", "not finite"),
    "negative scale": ({"posterior": lambda m, x: DiagonalNormal(m.encode(x)[0], -torch.ones(3, 5)[: len(x)])}, BITS,
                       "binary", "log_prob of posterior.* is NaN: .*negative"),
    "dropout that is never switched off": (
        {"posterior": lambda m, x: DiagonalNormal(nn.functional.dropout(m.encode(x)[0]), torch.ones(len(x), 5))}, BITS,
        "binary", "differs from call to call.*nn.Module"),
    "batch statistics": (
        {"posterior": lambda m, x: DiagonalNormal(m.encode(x)[0] - m.encode(x)[0].mean(0), torch.ones(len(x), 5))},
        BITS, "binary", "depends on the images beside it"),
    "latents are numbers": (
        {"posterior": lambda m, x: Independent(TorchCategorical(logits=torch.stack(m.encode(x), -1)), 1)},
        BITS, "binary", "int64, where floating-point latents"),
    "prior of another size": ({"prior": lambda _: DiagonalNormal(torch.zeros(4), torch.ones(4))}, BITS, "binary",
                              r"prior\(\) has .*event shape \(4,\)"),
    "prior over units": ({"prior": lambda _: OwnNormal(torch.zeros(5), torch.ones(5))}, BITS, "binary",
                         r"prior\(\) has batch shape \(5,\)"),
    "prior of a batch": ({"prior": lambda _: DiagonalNormal(torch.zeros(7, 5), torch.ones(7, 5))}, BITS, "binary",
                         r"prior\(\) has batch shape \(7,\)"),
    # images
    "likelihood is logits": ({"likelihood": lambda m, z: m.logits(z)}, BITS, "binary", "is a Tensor"),
    "likelihood of flat images": ({"likelihood": lambda m, z: Bernoulli(m.decoder(z), 1)}, BITS, "binary",
                                  r"event shape \(24,\).*unflatten"),
    "channels last": ({"likelihood": lambda m, z: Bernoulli(m.logits(z).movedim(-3, -1), 3)}, BITS, "binary",
                      r"movedim\(-1, -3\)"),
    "images before samples": ({"likelihood": lambda m, z: Bernoulli(m.logits(z).transpose(0, 1), 3)}, BITS, "binary",
                              "keep samples before images"),
    "samples and images in one axis": ({"likelihood": lambda m, z: Bernoulli(m.logits(z).flatten(0, 1), 3)}, BITS,
                                       "binary", r"unflatten\(0, z.shape\[:2\]\)"),
    "axes restored in the wrong order": (
        {"likelihood": lambda m, z: Bernoulli(m.logits(z).reshape(*z.shape[1::-1], *SHAPE).transpose(0, 1), 3)},
        BITS, "binary", "depends on the latents beside it"),
    "pixels are a batch": ({"likelihood": lambda m, z: TorchBernoulli(logits=m.logits(z))}, BITS, "binary",
                           r"Independent\(…, 3\)"),
    "a convolution of five axes": ({"likelihood": by_conv}, BITS, "binary", "fails with .*flatten"),
    "batch statistics in a decoder without a density": (
        {"likelihood": lambda m, z: Delta(m.logits(z) - m.logits(z).mean((0, 1)), 3)}, GREY, "continuous",
        "likelihood.z. of a latent depends on the latents beside it"),
    "noise in a decoder without a density": (
        {"likelihood": lambda m, z: Delta(nn.functional.dropout(m.logits(z)), 3)}, GREY, "discrete256",
        "likelihood.z. differs from call to call"),
    "a decoder without a density and channels last": (
        {"likelihood": lambda m, z: Delta(m.logits(z).movedim(-3, -1), 3)}, GREY, "discrete256", "movedim"),
    "latents on another device": (
        {"posterior": lambda m, x: DiagonalNormal(m.encode(x)[0].to("meta"), torch.ones(5, device="meta"))}, BITS,
        "binary", "on the device meta, where cpu"),
    "mean over pixels and all": (scored(lambda s: s.mean()), BITS, "binary", r"shape \(\), where \(2, 3\)"),
    "a score a pixel": (scored(lambda s: s), BITS, "binary", r"shape \(2, 3, 2, 4, 3\)"),
    "summed over images": (scored(lambda s: s.sum((1, 2, 3, 4))), BITS, "binary", r"shape \(2,\)"),
    "a float": (scored(lambda _: 1.0), BITS, "binary", "shape float"),
    "a loss for a score": (scored(lambda s: -s.sum((-1, -2, -3))), BITS, "binary", "at most 0.*with its sign"),
    "half precision": (scored(lambda s: s.sum((-1, -2, -3)).half()), BITS, "binary", "float16"),
    "not a number": (scored(lambda s: s.sum((-1, -2, -3)) * torch.nan), BITS, "binary", "is NaN"),
    "noise in the decoder": ({"likelihood": lambda m, z: Bernoulli(nn.functional.dropout(m.logits(z)), 3)}, BITS,
                             "binary", "likelihood.* differs from call to call"),
    # measures
    "a Bernoulli on grey levels": ({}, GREY, "discrete256", "'discrete256' images leave"),
    "a Bernoulli on continuous images": ({}, GREY, "continuous", "'continuous' images leave"),
    "torch's Bernoulli on grey levels": (
        {"likelihood": lambda m, z: Independent(TorchBernoulli(logits=m.logits(z)), 3)}, GREY, "continuous", "leave"),
    "a Normal on 0/1": ({"likelihood": grey_normal}, BITS, "binary", "density .Normal., where 'binary' images"),
    "a Normal on levels": ({"likelihood": grey_normal}, GREY, "discrete256", "a density .*'discrete256'"),
    "a mixture of Normals on 0/1": (
        {"likelihood": lambda m, z: Independent(MixtureSameFamily(
            TorchCategorical(logits=torch.zeros(*z.shape[:2], *SHAPE, 2)),
            Normal(m.logits(z)[..., None].expand(*z.shape[:2], *SHAPE, 2), 1.0)), 3)}, BITS, "binary", "a density"),
    "a continuous Bernoulli on 0/1": (
        {"likelihood": lambda m, z: Independent(ContinuousBernoulli(logits=m.logits(z)), 3)}, BITS, "binary",
        "density"),
    "a Beta on 0/1": (
        {"likelihood": lambda m, z: Independent(Beta(m.logits(z).exp(), m.logits(z).exp(), validate_args=False), 3)},
        BITS, "binary", "leave|density"),
    "bytes for levels": (
        {"likelihood": lambda m, z: Independent(Binomial(255, logits=m.logits(z), validate_args=False), 3)}, GREY,
        "discrete256", "images leave"),
    "levels on continuous images": (
        {"likelihood": lambda m, z: DiscretisedLogistic(m.logits(z).sigmoid(), torch.ones(SHAPE), 256, 3)}, GREY,
        "continuous", "probabilities .*'continuous' images need a density"),
}  # fmt: skip


COLOURS = np.random.default_rng(0).random((6, 3, 8, 8))
LEVELS = np.rint(COLOURS * 255).astype(np.uint8)

ARRAYS: dict[str, tuple[Callable[[], Any], str]] = {
    "floats of no declared measure": (lambda: vb.images(COLOURS), "may be of any measure"),
    "floats from −1 to 1": (lambda: vb.images(2 * COLOURS - 1, "continuous"), "leaves the range"),
    "floats from 0 to 255": (lambda: vb.images(LEVELS.astype(float), "discrete256"), "leaves the range"),
    "negative levels": (lambda: vb.images(LEVELS.astype(np.int16) - 128), "leaves the range"),
    "levels of 16 bits": (lambda: vb.images(LEVELS.astype(np.uint16) * 257), "leaves the range"),
    "floats between levels": (lambda: vb.images(COLOURS, "discrete256"), "'discrete256' images cannot have"),
    "grey for bits": (lambda: vb.images(COLOURS, "binary"), "'binary' images cannot have"),
    "a NaN": (lambda: vb.images(np.where(COLOURS < 0.01, np.nan, COLOURS), "continuous"), "not finite"),
    "a range from white to black": (lambda: vb.images(COLOURS, "continuous", range=(1, 0)), "values of black and of"),
    "a measure that is none": (lambda: vb.images(COLOURS, "grey"), "unknown measure 'grey'"),
    "flat images": (lambda: vb.images(COLOURS.reshape(6, -1), "continuous"), "have the shape"),
    "images of five axes": (lambda: vb.images(COLOURS[None], "continuous"), "have the shape"),
    "three channels in two places": (lambda: vb.images(COLOURS[:, :, :, :3], "continuous"), "where the channels are"),
    "images of several sizes": (lambda: vb.images([[[0, 1], [1, 0]], [[0, 1, 1]]]), "makes no array"),
    "no images": (lambda: vb.images(COLOURS[:0], "continuous"), "of one image or more"),
    "complex numbers": (lambda: vb.images(COLOURS.astype(complex), "continuous"), "expected numbers"),
    "objects": (lambda: vb.images(np.full((6, 8, 8), None)), "expected numbers"),
    "a file's bytes": (lambda: vb.images(LEVELS.tobytes()), "images are a bytes"),
    "too few labels": (lambda: vb.images(COLOURS, "continuous", labels=[1, 2]), "2 labels for 6 images"),
    "images of another model": (lambda: vb.images(LEVELS), "fails with"),
}  # fmt: skip


def adapter(name: str) -> Any:
    """The wrong adapter of a name."""
    model: Any = Adapter(**WRONG[name][0])
    if name == "no prior":
        model.prior = None
    return model


@pytest.mark.parametrize("name", ARRAYS)
def test_wrong_images_are_refused_with_a_sentence(name: str) -> None:
    make, sentence = ARRAYS[name]
    with pytest.raises(UserError, match=sentence):
        vb.evaluate(Adapter(), make(), k=5, measurements=ALONE)


def test_whole_numbers_that_are_all_0_or_1_are_bits() -> None:
    """They were taken for levels 0 and 1 of 256: images that are almost black."""
    bits = (COLOURS > 0.5).astype(np.uint8)
    found = vb.images(bits)
    assert (found.spec.measure, float(found.images("test").max())) == ("binary", 1.0)
    assert float(vb.images(bits, "discrete256").images("test").max()) == pytest.approx(1 / 255)


def rows() -> Iterator[str]:
    """The table of the page: what is wrong, and what is said of it, up to the remedy."""
    yield "| what is wrong | what is said |"
    yield "| --- | --- |"
    calls = {name: lambda name=name: (adapter(name), Data(WRONG[name][1], DataSpec(SHAPE, WRONG[name][2])))
             for name in WRONG}  # fmt: skip
    calls |= {name: lambda make=make: (Adapter(), make()) for name, (make, _) in ARRAYS.items()}
    for name, call in calls.items():
        with pytest.raises(UserError) as caught:
            vb.evaluate(*call(), k=5, measurements=ALONE)
        said = " ".join(str(caught.value).split()).partition("; ")[0]
        said = re.sub(r"fails with (\w+): .*", r"fails with \1 …", said)  # torch's words
        said = re.sub(r"(p\(x\|z\) =|from|to) [\d.]+\b", r"\1 …", said)
        said = re.sub(r"(makes no array) \(.*\)", r"\1", said)  # numpy's words
        yield f"| {name} | {said} |".replace("|z)", "\\|z)").replace("*latent", "\\*latent")


PAGE = Path(__file__).parents[2] / "docs" / "your-model.md"
TABLE = re.compile(r"(?<=<!-- refused -->\n\n).*?(?=\n\n<!-- end -->)", re.DOTALL)


def test_the_page_has_every_wrong_adapter_and_array_with_its_sentence() -> None:
    (table,) = TABLE.findall(PAGE.read_text(encoding="utf-8"))
    assert table.splitlines() == list(rows())
    assert len(table.splitlines()) > 2 + 40


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_adapter_is_refused_with_a_sentence(name: str) -> None:
    _, x, measure, sentence = WRONG[name]
    model = adapter(name)
    state = torch.get_rng_state()
    with pytest.raises(UserError, match=sentence):
        vb.evaluate(model, Data(x, DataSpec(SHAPE, measure)), k=5, measurements=ALONE)
    assert torch.equal(torch.get_rng_state(), state)
    if measure != "discrete256":  # without a measure all that is known of images is whether they are 0 and 1
        with pytest.raises(UserError):
            vb.log_likelihood(model, x, k=5)


RIGHT: dict[str, tuple[dict[str, Any], Tensor, str]] = {
    "Bernoulli": ({}, BITS, "binary"),
    "torch's Bernoulli": ({"likelihood": lambda m, z: Independent(TorchBernoulli(logits=m.logits(z)), 3)}, BITS,
                          "binary"),
    "Normal": ({"likelihood": grey_normal}, GREY, "continuous"),
    "levels": ({"likelihood": lambda m, z: DiscretisedLogistic(m.logits(z).sigmoid(), torch.ones(SHAPE), 256, 3)}, GREY,
               "discrete256"),
    "one-hot codes": ({"posterior": lambda m, x: OneHotCategorical(logits=m.encode(x)[0]),
                       "prior": lambda _: OneHotCategorical(logits=torch.zeros(LATENT))}, BITS, "binary"),
    "a deterministic encoder": ({"posterior": lambda m, x: Delta(m.encode(x)[0])}, BITS, "binary"),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("images", [1, 2, 6])
def test_a_right_adapter_passes_with_any_number_of_images(name: str, images: int) -> None:
    parts, x, measure = RIGHT[name]
    found = vb.evaluate(Adapter(**parts), Data(x[:images], DataSpec(SHAPE, measure)), k=5, measurements=ALONE)
    assert found.metrics["distortion"].value is not None


def test_the_check_leaves_the_figures_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = Adapter(), Data(BITS, DataSpec(SHAPE))
    checked = vb.evaluate(model, data, k=20)
    monkeypatch.setattr("vaebench.evaluation.report.check_model", lambda *_: [])
    assert vb.evaluate(model, data, k=20).metrics == checked.metrics


@pytest.mark.parametrize("measure", ["binary", "discrete256", "continuous"])
def test_a_decoder_without_a_density_gives_all_that_needs_none(measure: str) -> None:
    model = Adapter(likelihood=lambda m, z: Delta(m.logits(z).sigmoid(), 3))
    images = BITS if measure == "binary" else GREY
    found = vb.evaluate(model, Data(images, DataSpec(SHAPE, measure)), k=5)
    assert found.metrics["log_likelihood"].unavailable
    assert found.metrics["elbo"].unavailable
    q, p = model.posterior(images), model.prior()
    rate = torch.distributions.kl_divergence(q, p).detach()
    assert found.metrics["rate"].value == pytest.approx(float(rate.mean()), rel=1e-5)
    error = (model.logits(q.mean).sigmoid() - images).square().mean().detach()
    assert found.metrics["mse"].value == pytest.approx(float(error), rel=1e-5)
    assert found.collapse["verdict"] != "unknown"


def test_a_model_without_a_prior_is_judged_by_its_reconstructions() -> None:
    def none(_: Adapter) -> None:
        raise Unavailable("it has none")

    found = vb.evaluate(Adapter(prior=none), Data(BITS, DataSpec(SHAPE)), k=5)
    assert found.metrics["mse"].value is not None
    assert found.metrics["log_likelihood"].unavailable == "it has none"


@pytest.mark.parametrize(("scale", "warned"), [(1.0, False), (255.0, True)])
def test_means_of_another_range_are_mentioned(scale: float, warned: bool) -> None:
    model = Adapter(likelihood=lambda m, z: DiagonalNormal(scale * m.logits(z).sigmoid(), torch.ones(SHAPE), 3))
    found = vb.evaluate(model, Data(GREY, DataSpec(SHAPE, "continuous")), k=5, measurements=ALONE)
    assert any("look for a decoder of another range" in text for text in found.warnings) == warned


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(lambda _: "\n".join(rows()), text), encoding="utf-8")
