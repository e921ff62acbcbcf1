"""Optimisers and learning-rate schedulers that torch lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from vaebench.ranges import require_ranges


@final
class AdamNormGrad(Adam):
    r"""Adam on gradients normalised to length 1, tensor by tensor, as in the training of VampPriors and exemplar VAEs.

    .. math:: g \leftarrow g / (\|g\|_2 + 10^{-7})

    so that the length of a step depends on the learning rate and not on the scale of the loss.

    Reference:
        Tomczak & Welling 2018, https://arxiv.org/abs/1705.07120, in their code (jmtomczak/vae_vampprior).

    Args:
        params: as of torch's Adam. lr, betas, eps, weight_decay: the same.
    """

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step; leaves the gradients at length 1."""
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.grad.div_(torch.linalg.vector_norm(p.grad) + 1e-7)
        return super().step(closure)


@final
class StepwiseDecay(LRScheduler):
    r"""The stepwise decay of the IWAE's authors: lr · 10^(−i/7) for 3^i epochs, i = 0, …, 7, 3,280 epochs in total.

    .. math:: \eta_i = \eta \cdot 10^{-i / (S - 1)} \;\text{ for } B^i \text{ epochs}, \qquad i = 0, \dots, S - 1

    The last learning rate, a tenth of the first one, applies to all further epochs.

    Reference:
        Burda et al. 2016, Importance weighted autoencoders, section 5, https://arxiv.org/abs/1509.00519.

    Args:
        optimizer: the optimiser.
        stages: S, number of learning rates; at least 1.
        base: B, ratio of the lengths of successive stages; at least 1.
        last_epoch: as in torch; −1 at the start.

    Raises:
        UserError: a number lies outside its range.
    """

    ALSO = ("burda",)

    def __init__(self, optimizer: Optimizer, stages: int = 8, base: int = 3, last_epoch: int = -1) -> None:
        require_ranges(StepwiseDecay, {"stages": stages, "base": base}, "lr_scheduler.")
        self.stages, self.base = stages, base
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of every parameter group in the current epoch."""
        stage, end = 0, 1
        while stage < self.stages - 1 and self.last_epoch >= end:
            stage += 1
            end += self.base**stage
        return [float(lr) * 10 ** (-stage / max(self.stages - 1, 1)) for lr in self.base_lrs]
