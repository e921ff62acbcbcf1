"""The VAE that also predicts a label from its code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch.nn.functional as F
from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.errors import UserError
from vaebench.measures import Shape
from vaebench.networks import MLP, Network


@final
class AuxiliaryVAE(Family):
    r"""Auxiliary attribute prediction: the code must also tell the image's label.

    .. math:: L(x, y) = E_{q(z|x)}\big[\log p(x|z) + \alpha \log r(y|z)\big] - KL(q(z|x) \| p(z))

    with a classifier r, a softmax over the classes, that serves training alone: what is evaluated is the VAE inside,
    and the bound on log p(x) is its ELBO (α = 0). At α = 1, L bounds log p(x, y) where y depends on x through z alone.
    Nats per image.

    Reference:
        Zhao, Zhao & Eskenazi 2017 (where predicting words from z mends collapse),
        https://arxiv.org/abs/1703.10960; with class labels, Ilse et al. 2020, https://arxiv.org/abs/1905.10427.

    Args:
        data: shape, measure and mean of the images.
        weight: α ≥ 0.
        classes: number of labels, 0 to classes − 1.
        classifier: builds the network from z to logits.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.

    Raises:
        UserError: while training, the data has no labels.
    """

    NEUTRAL = {"weight": 0.0}

    weight: Tensor

    def __init__(
        self,
        data: DataSpec,
        weight: float = 1.0,
        classes: int = 10,
        classifier: Callable[[Shape, Shape], Network] = MLP,
        **parts: Any,
    ) -> None:
        super().__init__(data, **parts)
        self.classifier = classifier(tuple(self.prior().event_shape), (classes,))
        self.classes = classes
        self.hyper(weight=weight)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        if y is None:
            raise UserError("AuxiliaryVAE predicts labels and the data has none; choose a data set with labels")
        terms = self.terms(x, y)
        logits = self.classifier(terms.z[0])  # (b, classes)
        wrong = F.cross_entropy(logits, y)
        accuracy = (logits.argmax(-1) == y).to(x.dtype).mean()
        return Step({"model": self.weight * wrong - terms.elbo.mean()}, terms.logs | {"accuracy": accuracy})
