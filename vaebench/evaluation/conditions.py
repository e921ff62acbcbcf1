"""Conditions of a measurement: checked images, evaluation mode, noise keyed by image, and no side effects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaebench.core import Family, LatentModel, fixed_noise
from vaebench.errors import UserError
from vaebench.evaluation.images import Stack, parts
from vaebench.measures import BINARY, DISCRETE, DataSpec


class Conditioned:
    """A conditional model with the labels of the images it is evaluated on, in their order.

    Args:
        family: the model; its `given` takes labels.
        y: labels, (n,), on its device.
    """

    def __init__(self, family: Family, y: Tensor) -> None:
        self.family, self.y = family, y
        view = family.given(y)
        self.prior, self.likelihood = view.prior, view.likelihood
        self._posterior = view.posterior

    def posterior(self, x: Tensor) -> Distribution:
        """q(z|x, y) of images x (n, *data)."""
        if len(x) != len(self.y):
            raise RuntimeError(f"{len(x)} images meet {len(self.y)} labels: take the model `for_images` those images")
        return self._posterior(x)


def declared(model: LatentModel) -> LatentModel:
    """The model whose parts declare traits: the family itself where a model is `Conditioned`."""
    return model.family if isinstance(model, Conditioned) else model


def for_images(model: LatentModel, index: slice | Tensor) -> LatentModel:
    """The model restricted to some of its images; only a `Conditioned` model depends on which."""
    if not isinstance(model, Conditioned):
        return model
    return Conditioned(model.family, model.y[index if isinstance(index, slice) else index.to(model.y.device)])


def each(model: LatentModel, x: Stack, size: int) -> Iterator[tuple[LatentModel, Tensor]]:
    """Batches of images x (n, *data), each with the model restricted to them."""
    for start, images in zip(range(0, len(x), size), x.split(size), strict=True):
        yield for_images(model, slice(start, start + size)), images


def is_conditional(model: LatentModel) -> bool:
    """Whether a model needs labels."""
    return isinstance(model, Family) and type(model).given is not Family.given


MOST = 10**9  # samples or images; a larger number is a typing mistake that would run for years


def check_count(name: str, value: int) -> None:
    """Raises a UserError unless `value` is a whole number from 1 to `MOST`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(
            f"{name} is {value!r}, where a whole number of at least 1 is expected; give {name} such a value"
        )
    if value > MOST:
        raise UserError(f"{name} is {value}: expected at most {MOST:,}; lower {name}")


def check_images(x: Stack, spec: DataSpec | None = None) -> None:
    """Checks that images are finite, lie in [0, 1], and have values of their measure; an error names the first bad one.

    Args:
        x: images, (n, *data), n ≥ 1.
        spec: declared shape and measure of the images; None checks neither.

    Raises:
        UserError: an image fails a check, or there is none.
    """
    if len(x) == 0:
        raise UserError("there are no images to evaluate: expected at least one; give another split or a larger limit")
    if spec is not None and tuple(x.shape[1:]) != spec.shape:
        raise UserError(
            f"images of shape {tuple(x.shape[1:])} meet a model or data set of shape {spec.shape}; "
            "evaluate the model on the data it was built for"
        )
    start = 0
    for part in parts(x, len(x)):
        _check_values(part, spec, start)
        start += len(part)


def _check_values(x: Tensor, spec: DataSpec | None, start: int) -> None:
    _refuse(~torch.isfinite(x), start, "holds values that are not finite", "clean the data")
    _refuse(
        (x < 0) | (x > 1),
        start,
        "leaves the range [0, 1] that images have",
        "bring them to it, as vb.images(x, range=(black, white)) does",
    )
    if spec is not None and spec.kind in (BINARY, DISCRETE):
        steps = x.double() * ((spec.levels or 2) - 1)
        _refuse(
            (steps - steps.round()).abs() > 1e-3,
            start,
            f"holds values that '{spec.measure}' images cannot have",
            "set data.measure to the one that the images have",
        )


def _refuse(wrong: Tensor, start: int, what: str, remedy: str) -> None:
    images = wrong.flatten(1).any(1)
    if images.any():
        raise UserError(f"image {start + int(images.nonzero()[0])} {what}; {remedy}")


def device_and_dtype(model: LatentModel, x: Stack) -> tuple[torch.device, torch.dtype]:
    """Device and precision of a model: those of its first floating-point tensor, or of x where it has none."""
    tensors = chain.from_iterable(chain(m.parameters(), m.buffers()) for m in modules(model))
    floating = (t for t in tensors if t.is_floating_point())
    like = next(floating, x if x.dtype.is_floating_point else torch.empty(0))
    return like.device, like.dtype


@contextmanager
def evaluation_mode(model: LatentModel, device: torch.device) -> Iterator[None]:
    """Runs a block in evaluation mode without gradients and without TF32, which rounds float32 products to 10 bits.

    Restores every module's mode, the random state, and the user's choice of TF32.
    """
    inside = list(dict.fromkeys(chain.from_iterable(m.modules() for m in modules(model))))
    modes = [(module, module.training) for module in inside]
    try:
        for module in inside:
            module.training = False
        with fixed_noise(0, device), torch.inference_mode(), _full_products():
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _full_products() -> Iterator[None]:
    """Runs a block with products of float32 matrices and convolutions in float32."""
    kinds: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision


def modules(model: LatentModel) -> list[nn.Module]:
    """The modules of a model: itself or its parts, or those of the conditioned family."""
    inside = declared(model)
    parts = (inside, *(getattr(inside, name, None) for name in ("posterior", "prior", "likelihood")))  # one may lack
    return [part for part in parts if isinstance(part, nn.Module)]


def noise_keys(x: Stack, seed: int) -> list[bytes]:
    """One key per image, from its float32 bytes and the seed: noise does not depend on batch or order."""
    start = seed.to_bytes(16, "little", signed=True)
    images = (image for part in parts(x, max(1, len(x))) for image in part.float().cpu().numpy())
    return [blake2b(image.tobytes(), key=start, digest_size=16).digest() for image in images]


def start_noise(key: bytes, block: int, device: torch.device) -> None:
    """Seeds torch on `device` for one block of an image's samples; call it inside `evaluation_mode`."""
    seed = int.from_bytes(blake2b(key, salt=block.to_bytes(8, "little"), digest_size=8).digest(), "little")
    torch.default_generator.manual_seed(seed)  # torch.manual_seed costs a tenth of a millisecond
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


def spread(n: int, at_most: int) -> Tensor:
    """Indices of up to `at_most` of n images, evenly spaced: splits are often sorted by class."""
    return torch.linspace(0, n - 1, min(n, at_most)).round().long()
