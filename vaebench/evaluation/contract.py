"""Checks on a third-party model, made once on a few images before anything is averaged.

`vaebench.core.LatentModel` defines the three parts. Families satisfy it by construction. An adapter may violate it and
still give plausible averages: by a mean over pixels, by swapped axes of samples and images, or by a density where the
images have probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, TransformedDistribution, constraints

from vaebench.core import Family, LatentModel
from vaebench.distributions import Delta
from vaebench.errors import Unavailable, UserError, absence
from vaebench.evaluation.answers import (
    ALONE,
    SAMPLES,
    SLACK,
    STILL,
    WRAP,
    check_batch,
    check_means,
    check_same,
    check_samples,
    distribution,
    made,
    scores,
)
from vaebench.evaluation.conditions import (
    Conditioned,
    check_images,
    declared,
    device_and_dtype,
    evaluation_mode,
    is_conditional,
)
from vaebench.measures import CONTINUOUS, DataSpec
from vaebench.traits import LikelihoodTraits

IMAGES = 3  # in the checks


@runtime_checkable
class Specified(Protocol):
    """A model that declares the images it is built for."""

    data: DataSpec


def specification(model: LatentModel) -> DataSpec | None:
    """Shape and measure of the images that a model is built for; None where it declares neither."""
    return model.data if isinstance(model, Specified) and isinstance(model.data, DataSpec) else None


@contextmanager
def admitted(
    model: LatentModel, x: Tensor, labels: Tensor | None = None, check: bool = True
) -> Iterator[tuple[LatentModel, Tensor]]:
    """Checks a model and its images, then runs a block in evaluation mode.

    Args:
        model: anything with the three parts.
        x: images, (n, *data), in [0, 1].
        labels: (n,), which a conditional model needs.
        check: whether to check the parts of a third-party model, which costs a few passes.

    Yields:
        The model for these images, and the images on its device and in its precision.

    Raises:
        UserError: the images, the labels or the model's parts are invalid.
        Unavailable: the block needs something that the model does not have.
    """
    spec = specification(model)
    check_images(x, spec)
    if is_conditional(model):
        if labels is None or len(labels) != len(x):
            raise UserError(
                f"{type(model).__name__} is conditional on labels, and there are "
                f"{'none' if labels is None else len(labels)} for {len(x)} images; give one label an image"
            )
        model = Conditioned(cast(Family, model), labels.to(device_and_dtype(model, x)[0]))
    device, dtype = device_and_dtype(model, x)
    with evaluation_mode(model, device), absence("the posterior or the prior has no density"):
        if check and not isinstance(model, Family | Conditioned):
            check_model(model, x[:IMAGES].to(device, dtype), spec)
        yield model, x.to(device, dtype)


def check_model(model: LatentModel, x: Tensor, spec: DataSpec | None = None) -> list[str]:
    """Checks the three parts of a third-party model; call it inside `evaluation_mode`.

    Args:
        model: the model, not a `Family`.
        x: checked images on its device, (n, *data).
        spec: shape and measure; None assumes binary images where all values are 0 or 1.

    Returns:
        Sentences on what is no error, but seldom meant.

    Raises:
        UserError: a part has the wrong shapes, type, device, support or values, or depends on more than its arguments.
    """
    for name in ("posterior", "prior", "likelihood"):
        if not callable(getattr(model, name, None)):
            raise UserError(
                f"{type(model).__name__} has no method '{name}': expected posterior(x), prior() and likelihood(z); "
                "write an adapter as docs/adapters.md shows"
            )
    x = x[torch.arange(IMAGES) % len(x)]
    with suppress(Unavailable), absence():  # what is missing makes figures unavailable, and is no error
        return _check_images(model, _check_latents(model, x), x, spec)
    return []


def _check_latents(model: LatentModel, x: Tensor) -> Tensor:
    """Checks q(z|x) and p(z), and returns samples z (SAMPLES, IMAGES, *latent) of q."""
    b, what = len(x), f"posterior(x) of {len(x)} images"
    q = distribution(what, lambda: model.posterior(x))
    check_batch(what, q, (b,), "an image")
    z = made(f"a sample of {what}", lambda: (q.rsample if q.has_rsample else q.sample)(torch.Size((SAMPLES,))))
    check_samples(what, q, z, x)
    with suppress(Unavailable):
        _check_prior(model, q, z)
    log_q = scores(what, q, z, (SAMPLES, b))
    if log_q is not None:
        check_same(log_q, model.posterior(x).log_prob(z), "posterior(x) differs from call to call", STILL)
        alone = model.posterior(x[1:2]).log_prob(z[:, 1:2])
        check_same(log_q[:, 1:2], alone, "posterior(x) of an image depends on the images beside it", ALONE)
    return z


def _check_prior(model: LatentModel, q: Distribution, z: Tensor) -> None:
    p = distribution("prior()", model.prior)
    if p.event_shape != q.event_shape or p.batch_shape.numel() != 1:
        raise UserError(
            f"prior() has batch shape {tuple(p.batch_shape)} and event shape {tuple(p.event_shape)}, where () and "
            f"{tuple(q.event_shape)}, those of a latent of posterior(x), are expected; {WRAP}"
        )
    scores("prior()", p, z, tuple(z.shape[:2]))


def _check_images(model: LatentModel, z: Tensor, x: Tensor, spec: DataSpec | None) -> list[str]:
    what, shape = f"likelihood(z) of latents {tuple(z.shape)}", tuple(x.shape[1:])
    d = distribution(what, lambda: model.likelihood(z))
    if tuple(d.event_shape) != shape or tuple(d.batch_shape) != tuple(z.shape[:2]):
        raise UserError(
            f"{what} has batch shape {tuple(d.batch_shape)} and event shape {tuple(d.event_shape)}, where "
            f"{tuple(z.shape[:2])} (samples, images) and {shape} (an image, channels first) are expected; "
            f"{_hint(d, z, shape)}"
        )
    if isinstance(d, Delta):  # of any measure, as it gives none
        return check_means(what, model.likelihood, z)
    _check_support(what, d, x, spec)
    log_x = scores(what, d, x, tuple(z.shape[:2]))
    if log_x is None:
        return check_means(what, model.likelihood, z)
    if _counting(x, spec) and bool((log_x > SLACK).any()):
        raise UserError(
            f"{what} gives an image log p(x|z) = {float(log_x.max()):.4g}, where a probability, at most 0, is "
            "expected; look for a density, or for a loss returned with its sign"
        )
    if LikelihoodTraits.of(declared(model).likelihood).bound:
        return []  # scores by drawing noise
    check_same(log_x, model.likelihood(z).log_prob(x), "likelihood(z) differs from call to call", STILL)
    one = model.likelihood(z[1:, 1:2]).log_prob(x[1:2])
    check_same(log_x[1:, 1:2], one, "likelihood(z) of a latent depends on the latents beside it", ALONE)
    return check_means(what, model.likelihood, z)


def _hint(d: Distribution, z: Tensor, shape: tuple[int, ...]) -> str:
    """A remedy guessed from the shapes."""
    event, batch, pixels = tuple(d.event_shape), tuple(d.batch_shape), torch.Size(shape).numel()
    if event == (*shape[1:], shape[0]):
        return "move the channels to the front, as by .movedim(-1, -3)"
    if batch == (z.shape[1], z.shape[0]):
        return "keep samples before images: likelihood(z) gets z of shape (samples, images, *latent)"
    if batch == (z.shape[0] * z.shape[1],):
        return "restore both axes, by .unflatten(0, z.shape[:2])"
    if event == () and batch[-len(shape) :] == shape:
        return f"say that the last {len(shape)} axes are one image: event={len(shape)}, or Independent(…, {len(shape)})"
    if d.event_shape.numel() == pixels:
        return f"give it the shape of an image, as by .unflatten(-1, {shape})"
    return "let the decoder end in the shape of an image"


def _counting(x: Tensor, spec: DataSpec | None) -> bool:
    return bool(((x == 0) | (x == 1)).all()) if spec is None else spec.kind != CONTINUOUS


def _check_support(what: str, d: Distribution, x: Tensor, spec: DataSpec | None) -> None:
    """Refuses a distribution of another measure than that of the images, or one whose support excludes them."""
    support: Any = None
    with suppress(Unavailable), absence():
        support = d.support
    if support is None:
        return
    measure = spec.measure if spec is not None else "binary" if _counting(x, spec) else "continuous"
    if not bool(support.check(x).all()):
        raise UserError(
            f"{what} is a distribution over {_named(support)}, which '{measure}' images leave; Bernoulli is for 0/1 "
            "images, DiscretisedLogistic for levels j / (N − 1), a Normal for continuous ones: take one that has the "
            "images' values, or set data.measure to the one that it was trained on"
        )
    if support.is_discrete != _counting(x, spec):
        kind, needed = ("probabilities", "a density") if support.is_discrete else ("a density", "probabilities")
        raise UserError(
            f"{what} has {kind} ({type(_innermost(d)).__name__}), where '{measure}' images need {needed}: its figure "
            "would be of another measure, and no log-likelihood; take Bernoulli for 0/1 images, DiscretisedLogistic "
            "for levels and a Normal for continuous images, or set data.measure to the one that it was trained on"
        )


def _named(support: Any) -> str:
    """A support in words, without the tensors that it may hold."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    text = repr(support)
    return type(support).__name__.strip("_") if "tensor(" in text else text.removesuffix("()")


def _innermost(d: Distribution) -> Distribution:
    while isinstance(d, Independent | TransformedDistribution):
        d = d.base_dist
    return d
