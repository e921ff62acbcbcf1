"""The VAE with an aggressively trained encoder."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.functional.objectives import minibatch_information
from vaebench.ranges import AMOUNT
from vaebench.schedules import Round, Watch, continued, watched


@final
class AggressiveVAE(Family):
    r"""Aggressive training: the encoder catches up with the decoder before every step of the decoder.

    .. math:: \phi \leftarrow \phi + \eta \nabla_\phi L \;\text{ until } L \text{ stops rising}, \qquad
              \theta \leftarrow \theta + \eta \nabla_\theta L, \qquad L = \text{ELBO}

    The encoder's round ends when a window's mean loss has risen, or at a cap; then one batch trains the decoder alone.
    When the mutual information I_q(x; z) has stopped rising, both learn from every batch, as in a plain VAE. Here it is
    that of the decoder's training batches, averaged over an epoch of them (the authors take validation batches), and
    every batch of a round is a training step. Nats per image.

    Reference:
        He et al. 2019, Lagging inference networks, https://arxiv.org/abs/1901.05534.

    Args:
        data: shape, measure, mean and number of the images.
        check, cap: encoder steps a window; most of them a round.
        patience: looks without a new highest information that end the aggressive training; 0 trains plainly.
        epoch: decoder steps between two looks at the information; None takes the data's size over the batch's.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    RANGES = {"patience": AMOUNT}

    check: Tensor
    cap: Tensor
    patience: Tensor
    aggressive: Tensor
    done: Tensor

    def __init__(
        self, data: DataSpec, check: int = 10, cap: int = 100, patience: int = 5, epoch: int | None = None, **parts: Any
    ) -> None:
        super().__init__(data, **parts)
        self.epoch = epoch
        self.hyper(check=check, cap=cap, patience=patience)
        self.hyper(aggressive=patience > 0, **Round()._asdict(), **Watch()._asdict())

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"encoder": ("posterior",), "decoder": ("likelihood", "prior")}

    def active(self, t: Tensor) -> dict[str, Tensor]:
        plain, turn = self.aggressive == 0, self.done > 0
        return {"encoder": plain | ~turn, "decoder": plain | turn}

    def settled(self) -> float:
        return math.inf if self.aggressive else 0.0

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        loss, information = -terms.elbo.mean(), minibatch_information(terms.q.log_prob(terms.z[0][:, None]))
        extra = {"information": information, "aggressive": self.aggressive}
        epoch = self.epoch or (self.data.size or len(x)) / len(x)
        state = self._next(self.pooled(loss), self.pooled(information), epoch)
        return Step({"encoder": loss, "decoder": loss}, terms.logs | extra, state)

    def _next(self, loss: Tensor, information: Tensor, epoch: float) -> dict[str, Tensor]:
        """The buffers after this batch: the encoder's round goes on, or after the decoder's turn a new one begins."""
        now, watch = Round(*map(self.get_buffer, Round._fields)), Watch(*map(self.get_buffer, Watch._fields))
        rounds = zip(Round._fields, Round(), continued(now, loss, self.check, self.cap), strict=True)
        looks = zip(Watch._fields, watched(watch, information, epoch), watch, strict=True)
        state = {name: torch.where(self.done > 0, new, old) for name, new, old in (*rounds, *looks)}
        return state | {"aggressive": (state["misses"] < self.patience).to(loss.dtype)}
