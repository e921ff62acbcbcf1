"""Checks on what a part of a third-party model gives: its type, shapes, device and values."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebench.errors import Unavailable, UserError, absence

SAMPLES = 2  # of each image in the checks: not their number, so that swapped axes show
SLACK = 1e-2  # nats, or 1 % of the score: tolerance for rounding
ROOM = 0.5  # by which means of images may leave [0, 1] without a word

WRAP = (
    "return one distribution over a whole latent, such as DiagonalNormal(mean, scale) or torch's Independent(…, 1), "
    "whose log_prob is a sum over it"
)
ALONE = "look for an axis that is reshaped into another, or batch statistics in use"
STILL = "make the adapter an nn.Module, so that evaluation can switch dropout off, and draw no noise in it"

Made = TypeVar("Made")


def made(what: str, make: Callable[[], Made]) -> Made:
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


def distribution(what: str, make: Callable[[], Any]) -> Distribution:
    distribution = made(what, make)
    if not isinstance(distribution, Distribution):
        raise UserError(
            f"{what} is a {type(distribution).__name__}, where a torch.distributions.Distribution is expected; return "
            "such as DiagonalNormal(mean, scale) or Bernoulli(logits, event=3) of vaebench.distributions"
        )
    return distribution


def check_batch(what: str, d: Distribution, batch: tuple[int, ...], unit: str) -> None:
    if tuple(d.batch_shape) != batch:
        raise UserError(
            f"{what} has batch shape {tuple(d.batch_shape)} and event shape {tuple(d.event_shape)}, where batch shape "
            f"{batch}, one distribution {unit}, is expected; {WRAP}"
        )


def check_samples(what: str, q: Distribution, z: Tensor, like: Tensor) -> None:
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
    check_device(f"samples of {what}", z, like)
    if not bool(torch.isfinite(z).all()):
        raise UserError(
            f"samples of {what} are not finite: expected finite latents; look for diverged weights, or a scale that "
            "over- or underflows"
        )


def scores(what: str, d: Distribution, value: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """The checked log_prob of a value; None where d has no density."""
    try:
        scores = made(f"log_prob of {what}", lambda: d.log_prob(value))
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
    check_device(f"values of log_prob of {what}", scores, value)
    if bool(torch.isnan(scores).any()):
        raise UserError(
            f"log_prob of {what} is NaN: expected numbers; look for a negative or zero scale, or the logarithm of a "
            "rounded probability"
        )
    return scores


def check_device(what: str, found: Tensor, like: Tensor) -> None:
    if found.device != like.device:
        raise UserError(
            f"{what} are on the device {found.device}, where {like.device}, that of the images, is expected; make "
            "tensors on the device of the model's parameters"
        )


def check_same(one: Tensor, other: Tensor, fault: str, remedy: str) -> None:
    if tuple(one.shape) != tuple(other.shape) or bool(((one - other).abs() > SLACK * (1 + one.abs() / 100)).any()):
        raise UserError(f"{fault}: expected the same log_prob of the same values; {remedy}")


def check_means(what: str, likelihood: Callable[[Tensor], Distribution], z: Tensor) -> list[str]:
    """Checks the means of p(x|z) of z (k, b, *latent), where it has some; a sentence where they leave [0, 1]."""
    with suppress(Unavailable):
        d = likelihood(z)
        means, expected = made(f"the mean of {what}", lambda: d.mean), (*d.batch_shape, *d.event_shape)
        if tuple(means.shape) != expected:
            raise UserError(
                f"the mean of {what} has shape {tuple(means.shape)}, where {expected} is expected; let it be an image "
                "for each latent"
            )
        for found, latents, fault, remedy in (
            (means, z, "differs from call to call", STILL),
            (means[1:, 1:2], z[1:, 1:2], "of a latent depends on the latents beside it", ALONE),
        ):
            if bool(((found - likelihood(latents).mean).abs() > SLACK * (1 + found.abs())).any()):
                raise UserError(f"likelihood(z) {fault}: expected the same mean of the same z; {remedy}")
        low, high = float(means.min()), float(means.max())
        if not (low >= -ROOM and high <= 1 + ROOM):
            return [
                f"the means of p(x|z) of {means.shape[1]} images run from {low:.3g} to {high:.3g}, where images lie in "
                "[0, 1]: look for a decoder of another range, such as [−1, 1] or [0, 255]"
            ]
    return []
