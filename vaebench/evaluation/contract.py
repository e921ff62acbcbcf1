"""Checks on a third-party model, made once on a few images before anything is averaged.

`vaebench.core.LatentModel` defines the three parts. Families satisfy it by construction. An adapter may violate it and
still give plausible averages: by a mean over pixels, by swapped axes of samples and images, or by a density where the
images have probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, TransformedDistribution

from vaebench.core import Family, LatentModel
from vaebench.errors import Unavailable, UserError, absence
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

IMAGES, SAMPLES = 3, 2  # different, so that swapped axes show
SLACK = 1e-2  # nats, or 1 % of the score: tolerance for rounding

WRAP = (
    "return one distribution over a whole latent, such as DiagonalNormal(mean, scale) or torch's Independent(…, 1), "
    "whose log_prob is a sum over it"
)
STILL = "make the adapter an nn.Module, so that evaluation can switch dropout off, and draw no noise in it"
ALONE = "look for an axis that is reshaped into another, or batch statistics in use"

Made = TypeVar("Made")


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


def check_model(model: LatentModel, x: Tensor, spec: DataSpec | None = None) -> None:
    """Checks the three parts of a third-party model; call it inside `evaluation_mode`.

    Args:
        model: the model, not a `Family`.
        x: checked images on its device, (n, *data).
        spec: shape and measure; None assumes binary images where all values are 0 or 1.

    Raises:
        UserError: a part has the wrong shapes, type, support or values, or depends on more than its arguments.
    """
    for name in ("posterior", "prior", "likelihood"):
        if not callable(getattr(model, name, None)):
            raise UserError(
                f"{type(model).__name__} has no method '{name}': expected posterior(x), prior() and likelihood(z); "
                "write an adapter as docs/adapters.md shows"
            )
    x = x[torch.arange(IMAGES) % len(x)]
    with suppress(Unavailable), absence():  # a missing density makes figures unavailable, and is no error
        _check_images(model, _check_latents(model, x), x, spec)


def _check_latents(model: LatentModel, x: Tensor) -> Tensor:
    """Checks q(z|x) and p(z), and returns samples z (SAMPLES, IMAGES, *latent) of q."""
    b, what = len(x), f"posterior(x) of {len(x)} images"
    q = _distribution(what, lambda: model.posterior(x))
    _check_batch(what, q, (b,), "an image")
    z = _made(f"a sample of {what}", lambda: (q.rsample if q.has_rsample else q.sample)(torch.Size((SAMPLES,))))
    _check_samples(what, q, z)
    p = _distribution("prior()", model.prior)
    if p.event_shape != q.event_shape or p.batch_shape.numel() != 1:
        raise UserError(
            f"prior() has batch shape {tuple(p.batch_shape)} and event shape {tuple(p.event_shape)}, where () and "
            f"{tuple(q.event_shape)}, those of a latent of posterior(x), are expected; {WRAP}"
        )
    log_q = _scores(what, q, z, (SAMPLES, b))
    _scores("prior()", p, z, (SAMPLES, b))
    if log_q is not None:
        _check_same(log_q, model.posterior(x).log_prob(z), "posterior(x) differs from call to call", STILL)
        alone = model.posterior(x[1:2]).log_prob(z[:, 1:2])
        _check_same(log_q[:, 1:2], alone, "posterior(x) of an image depends on the images beside it", ALONE)
    return z


def _check_images(model: LatentModel, z: Tensor, x: Tensor, spec: DataSpec | None) -> None:
    what, shape = f"likelihood(z) of latents {tuple(z.shape)}", tuple(x.shape[1:])
    d = _distribution(what, lambda: model.likelihood(z))
    if tuple(d.event_shape) != shape or tuple(d.batch_shape) != tuple(z.shape[:2]):
        raise UserError(
            f"{what} has batch shape {tuple(d.batch_shape)} and event shape {tuple(d.event_shape)}, where "
            f"{tuple(z.shape[:2])} (samples, images) and {shape} (an image, channels first) are expected; "
            f"{_hint(d, z, shape)}"
        )
    _check_support(what, d, x, spec)
    log_x = _scores(what, d, x, tuple(z.shape[:2]))
    if log_x is None:
        raise UserError(
            f"{what} has no log_prob, without which there is nothing to measure; return a distribution with one"
        )
    if _counting(x, spec) and bool((log_x > SLACK).any()):
        raise UserError(
            f"{what} gives an image log p(x|z) = {float(log_x.max()):.4g}, where a probability, at most 0, is "
            "expected; look for a density, or for a loss returned with its sign"
        )
    if LikelihoodTraits.of(declared(model).likelihood).bound:
        return  # scores by drawing noise
    _check_same(log_x, model.likelihood(z).log_prob(x), "likelihood(z) differs from call to call", STILL)
    one = model.likelihood(z[1:, 1:2]).log_prob(x[1:2])
    _check_same(log_x[1:, 1:2], one, "likelihood(z) of a latent depends on the latents beside it", ALONE)


def _made(what: str, make: Callable[[], Made]) -> Made:
    """Calls a part of the model, and turns its exceptions into error messages.

    Raises:
        Unavailable: the part does not exist.
        UserError: it fails in any other way.
    """
    try:
        with absence():
            return make()
    except (Unavailable, UserError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{what} fails with {type(error).__name__}: {reason}; it gets tensors as in docs/adapters.md: "
            "z has shape (samples, images, *latent), which convolutions take as z.flatten(0, 1)"
        ) from error


def _distribution(what: str, make: Callable[[], Any]) -> Distribution:
    distribution = _made(what, make)
    if not isinstance(distribution, Distribution):
        raise UserError(
            f"{what} is a {type(distribution).__name__}, where a torch.distributions.Distribution is expected; return "
            "such as DiagonalNormal(mean, scale) or Bernoulli(logits, event=3) of vaebench.distributions"
        )
    return distribution


def _check_batch(what: str, d: Distribution, batch: tuple[int, ...], unit: str) -> None:
    if tuple(d.batch_shape) != batch:
        raise UserError(
            f"{what} has batch shape {tuple(d.batch_shape)} and event shape {tuple(d.event_shape)}, where batch shape "
            f"{batch}, one distribution {unit}, is expected; {WRAP}"
        )


def _check_samples(what: str, q: Distribution, z: Tensor) -> None:
    expected = (SAMPLES, *q.batch_shape, *q.event_shape)
    if tuple(z.shape) != expected:
        raise UserError(
            f"samples of {what} have shape {tuple(z.shape)}, where {expected} is expected; let sample(shape) put the "
            "sample's shape in front"
        )
    if not z.dtype.is_floating_point:
        raise UserError(
            f"samples of {what} are {z.dtype}, where floating-point latents are expected; let z be one-hot or "
            "embedded, as a decoder reads it"
        )
    if not bool(torch.isfinite(z).all()):
        raise UserError(
            f"samples of {what} are not finite: expected finite latents; look for diverged weights, or a scale that "
            "over- or underflows"
        )


def _scores(what: str, d: Distribution, value: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """The checked log_prob of a value; None where d has no density."""
    try:
        scores = _made(f"log_prob of {what}", lambda: d.log_prob(value))
    except Unavailable:
        return None
    if not isinstance(scores, Tensor) or tuple(scores.shape) != shape:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise UserError(
            f"log_prob of {what} has shape {got}, where {shape} is expected, one sum over all units or pixels for "
            "each; sum over the event and over nothing else, and average nothing"
        )
    if scores.dtype not in (torch.float32, torch.float64):
        raise UserError(
            f"log_prob of {what} is {scores.dtype}, where float32 or float64 is expected: sums over many values need "
            "them; score in float32"
        )
    if bool(torch.isnan(scores).any()):
        raise UserError(
            f"log_prob of {what} is NaN: expected numbers; look for a negative or zero scale, or the logarithm of a "
            "rounded probability"
        )
    return scores


def _check_same(one: Tensor, other: Tensor, fault: str, remedy: str) -> None:
    if tuple(one.shape) != tuple(other.shape) or bool(((one - other).abs() > SLACK * (1 + one.abs() / 100)).any()):
        raise UserError(f"{fault}: expected the same log_prob of the same values; {remedy}")


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
            f"{what} is a distribution over {support}, which '{measure}' images leave; Bernoulli is for 0/1 images, "
            "DiscretisedLogistic for levels j / (N − 1), a Normal for continuous ones: take one that has the images' "
            "values, or set data.measure to the one that it was trained on"
        )
    if support.is_discrete != _counting(x, spec):
        kind, needed = ("probabilities", "a density") if support.is_discrete else ("a density", "probabilities")
        raise UserError(
            f"{what} has {kind} ({type(_innermost(d)).__name__}), where '{measure}' images need {needed}: its figure "
            "would be of another measure, and no log-likelihood; take Bernoulli for 0/1 images, DiscretisedLogistic "
            "for levels and a Normal for continuous images, or set data.measure to the one that it was trained on"
        )


def _innermost(d: Distribution) -> Distribution:
    while isinstance(d, Independent | TransformedDistribution):
        d = d.base_dist
    return d
