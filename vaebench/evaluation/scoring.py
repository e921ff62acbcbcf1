"""log p(x|z) of many samples, fast: in f32 or bf16, as the model stands or compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from vaebench.core import LatentModel
from vaebench.errors import unknown
from vaebench.evaluation.conditions import Conditioned

Precision = Literal["f32", "bf16"]
Score = Callable[..., Tensor]


def scorer(model: LatentModel, precision: Precision = "f32", compile: bool = False) -> Score:
    """(z (k, b, *latent), x (b, *data)) -> log p(x|z), nats, (k, b); `model` may name the one for these images.

    Args:
        model: anything with a likelihood.
        precision: 'f32' computes as the model stands; 'bf16' runs the likelihood's network, and nothing else, under
            autocast.
        compile: specialise the computation to the model's present weights and the first shapes that come; other
            shapes are computed as the model stands, and a conditional model always.

    Raises:
        UserError: the precision is none of the two.
    """
    if precision not in ("f32", "bf16"):
        raise unknown("precision", str(precision), ["f32", "bf16"])
    keep_freed_memory()

    def score(z: Tensor, x: Tensor, model: LatentModel = model) -> Tensor:
        with torch.autocast(z.device.type, torch.bfloat16, enabled=precision == "bf16"):
            p = model.likelihood(z)
        return p.log_prob(x)

    return Compiled(lambda z, x: score(z, x)) if compile and not isinstance(model, Conditioned) else score


class Compiled:
    """A score compiled for the shapes of its first call; where that fails it warns, and computes as it is written."""

    def __init__(self, score: Score) -> None:
        self.score = score
        self.fast: Score | None = None
        self.shapes: tuple[torch.Size, torch.Size] | None = None

    def __call__(self, z: Tensor, x: Tensor, _: LatentModel | None = None) -> Tensor:
        if self.shapes is None:
            self.shapes = (z.shape, x.shape)
            return self._compile(z, x)
        if self.fast is None or self.shapes != (z.shape, x.shape):
            return self.score(z, x)
        return self.fast(z, x)

    def _compile(self, z: Tensor, x: Tensor) -> Tensor:
        try:  # a compiler can fail in any way, and the result is right without it
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's remarks on its own code
                # A graph of its own holds the weights as constants: no later change of the model can meet a stale one.
                fast = torch.compile(make_fx(self.score)(z, x), dynamic=False, options={"freezing": True})
                result = fast(z, x)
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            warnings.warn(f"the likelihood could not be compiled and runs uncompiled, slower: {reason}", stacklevel=4)
            return self.score(z, x)
        self.fast = fast
        return result


def keep_freed_memory() -> None:
    """Makes glibc keep what a chunk frees for the next chunk, instead of handing it back and faulting it in again.

    Freeing one block of almost 32 MiB raises its limits for good (mallopt(3), M_MMAP_THRESHOLD). Worth a factor of two
    to four on a CPU; nothing elsewhere.
    """
    torch.empty(30 * 2**20, dtype=torch.uint8)
