"""log p(x|z) of many samples, fast: in f32 or bf16, as the model stands or compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.core.compiled import Compiled
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

    if not compile or isinstance(model, Conditioned):
        return score
    # The graph holds the weights as constants ('freezing'): no later change of the model can meet a stale one.
    compiled = Compiled("the likelihood", freezing=True)
    return lambda z, x, _=None: compiled(score, z, x)


def keep_freed_memory() -> None:
    """Makes glibc keep what a chunk frees for the next chunk, instead of handing it back and faulting it in again.

    Freeing one block of almost 32 MiB raises its limits for good (mallopt(3), M_MMAP_THRESHOLD). Worth a factor of two
    to four on a CPU; nothing elsewhere.
    """
    torch.empty(30 * 2**20, dtype=torch.uint8)
