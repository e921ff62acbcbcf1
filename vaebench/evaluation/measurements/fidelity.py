"""Fidelity of samples and reconstructions to test images, in the features of a named network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from torch import Tensor

from vaebench.errors import Unavailable
from vaebench.evaluation.estimators.features import Extractor, Inception, inception, mnist28
from vaebench.evaluation.estimators.fidelity import fid, inception_score, kid, require_comparable, support
from vaebench.evaluation.estimators.moments import average
from vaebench.evaluation.estimators.samples import mean_images, posterior_codes, prior_codes, sample_images
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject
from vaebench.measures import BINARY

SETS = "{made} and {test} test images in features of {extractor}"
GIVEN = "it depends on both numbers of images; se over the {over}, the neighbourhoods given"
DISTANCES = {
    "fid{end}": MetricKind(
        "",
        False,
        f"squared Fréchet distance ‖μ−μ'‖² + tr(Σ+Σ'−2(ΣΣ')^½) between {SETS}; biased upward by terms of order 1/n: "
        "compare at equal numbers; se by the jackknife over 20 groups",
    ),
    "fid{end}_jackknife": MetricKind(
        "",
        False,
        f"fid{{end}} with its bias of order 1/n removed by the jackknife over 20 groups, which may leave it below 0: "
        f"{SETS}",
    ),
    "kid{end}": MetricKind(
        "",
        False,
        f"unbiased MMD² under the kernel (⟨a,b⟩/d + 1)³ between {SETS}, over all pairs; it may be below 0; se by the "
        "jackknife over 20 groups",
    ),
}
SHARES = {
    "precision_mnist28": MetricKind(
        "", True, f"share of samples within the 3rd neighbour's distance of some test image: {SETS}; {GIVEN}"
    ),
    "recall_mnist28": MetricKind(
        "", True, f"share of test images within the 3rd neighbour's distance of some sample: {SETS}; {GIVEN}"
    ),
    "density_mnist28": MetricKind(
        "",
        None,
        "a fifth of the number of test images that a sample is closer to than their 5th neighbour is, near 1 where "
        f"samples are distributed as images: {SETS}; {GIVEN}",
    ),
    "coverage_mnist28": MetricKind(
        "", True, f"share of test images with a sample within their 5th neighbour's distance: {SETS}; {GIVEN}"
    ),
}
KINDS = {
    **{
        name.format(end=end): kind._replace(definition=kind.definition.replace("{end}", end))
        for end in ("_mnist28", "")
        for name, kind in DISTANCES.items()
    },
    **SHARES,
    "inception_score": MetricKind(
        "", True, "exp E KL(p(y|x)‖p(y)) of {made}, mean of 10 splits and its se; classes y of {extractor}"
    ),
}


DRAWS = "{} draws x ~ p(x|z), z ~ p(z),"
MEANS = "{} means E[x|z], z ~ p(z),"
OVER = {"precision": "samples", "recall": "test images", "density": "samples", "coverage": "test images"}
AGAIN = "{} draws x' ~ p(x'|z), z ~ q(z|x), one of each image x,"


class Made(NamedTuple):
    """Images made by the model.

    Attributes:
        end: suffix of the names of their metrics.
        label: their number and kind, for definitions.
        images: (n, *data); None where there are none.
        reason: why there are none.
        paired: image i is a reconstruction of test image i.
    """

    end: str
    label: str
    images: Tensor | None = None
    reason: str = ""
    paired: bool = False


def measure(subject: Subject, findings: Findings, samples: int = 10_000, test: int = 10_000) -> None:
    """Fréchet and kernel distances, precision, recall, density, coverage; Inception's figures where its weights are.

    Images are draws from p(x|z), which a perfect model distributes as the data. Unless the measure is binary, the means
    E[x|z] that papers compare are evaluated too, under names that end in `_means`. A missing network is reported once,
    with the metrics of the draws.

    Args:
        subject: the model and its images.
        findings: receives the figures.
        samples: images from samples of the prior.
        test: most test images for the comparison.
    """
    real = subject.x[subject.some(test)]
    shape, device = subject.spec.shape, subject.device
    sets: list[Made] = []
    for end, name, network in (("_mnist28", "mnist28", mnist28), ("", "inception-2015-12-05", inception)):
        made = Made("", DRAWS.format(samples))
        with findings.attempt(*_names(made, end), **_fill(made, real, name)):
            extractor = network(shape, device)
            sets = sets or list(_sets(subject, samples, real))
            if isinstance(extractor, Inception):
                _compare(findings, sets, real, extractor.features, end)
                _score(findings, sets, extractor.classes)
            else:
                _compare(findings, sets, real, extractor, end)


def _sets(subject: Subject, samples: int, real: Tensor) -> Iterator[Made]:
    model = subject.model

    def made(end: str, label: str, make: Callable[[], Tensor], paired: bool = False) -> Made:
        try:
            return Made(end, label, make(), paired=paired)
        except Unavailable as error:
            return Made(end, label, None, str(error), paired)

    yield made("", DRAWS.format(samples), lambda: sample_images(model, prior_codes(model, samples)))
    if subject.spec.kind != BINARY:
        yield made("_means", MEANS.format(samples), lambda: mean_images(model, prior_codes(model, samples)))
    again = AGAIN.format(len(real))
    yield made("_reconstructions", again, lambda: sample_images(model, posterior_codes(model, real)), paired=True)


def _names(made: Made, end: str) -> list[str]:
    """Kinds of the metrics of a set; reconstructions have distances only."""
    rest = [] if made.paired else list(SHARES) if end else ["inception_score"]
    return [name.format(end=end) for name in DISTANCES] + rest


def _fill(made: Made, real: Tensor, extractor: str, over: str = "images") -> dict[str, Any]:
    return {"made": made.label, "test": len(real), "extractor": extractor, "over": over}


def _compare(findings: Findings, sets: list[Made], real: Tensor, extractor: Extractor, end: str) -> None:
    """Adds the metrics of every set by one extractor."""
    y = extractor(real)
    for made in sets:

        def add(name: str, value: float, se: float | None, over: str = "", made: Made = made) -> None:
            fill = _fill(made, real, extractor.label, over)
            findings.single(f"{name}{made.end}", value, len(real), se, name, **fill)

        with findings.attempt(*_names(made, end), end=made.end, **_fill(made, real, extractor.label)):
            if made.images is None:
                raise Unavailable(made.reason)
            x = extractor(made.images)
            require_comparable(x, y)
            frechet, kernel = fid(x, y), kid(x, y, made.paired)
            add(f"fid{end}", frechet.value, frechet.se)
            add(f"fid{end}_jackknife", frechet.corrected, frechet.se)
            add(f"kid{end}", kernel.value, kernel.se)
            if not made.paired and end:
                for name, values in support(x, y)._asdict().items():
                    add(f"{name}{end}", *average(values), OVER[name])


def _score(findings: Findings, sets: list[Made], classes: Extractor) -> None:
    """Adds the Inception Score of the samples; where they could not be compared, the reason is already recorded."""
    for made in sets:
        if not made.paired and made.images is not None and findings.metrics[f"fid{made.end}"].value is not None:
            value, se = inception_score(classes(made.images))
            fill = {"made": made.label, "extractor": classes.label}
            findings.single(f"inception_score{made.end}", value, len(made.images), se, "inception_score", **fill)
