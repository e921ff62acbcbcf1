"""The VAE of which every pixel depends on few latents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from vaebench.core import DataSpec, Family, Shape, Step
from vaebench.errors import UserError
from vaebench.functional.regularisers import spike_and_slab
from vaebench.likelihoods import Likelihood, natural
from vaebench.networks.sparse import SparseMLP
from vaebench.ranges import POSITIVE


@final
class SparseVAE(Family):
    r"""Sparse VAE: pixel d is decoded from w_d ∘ z, and the mask W has a spike-and-slab lasso for a prior.

    .. math:: \frac1N \sum_i L_W(x_i) + \frac\rho N \log p(W|\eta), \qquad p(x_d|z) = p\big(x_d; f_d(w_d \circ z)\big)

    p(W|η) is that of `regularisers.spike_and_slab`, with one η_j a latent, whose prior is Beta(1, D); after each step η
    is at its mode, Σ_d p*_dj / (2 D − 1), with p* the slab's part in W_dj. The noise is the likelihood's, whose network
    must have a mask, as networks.SparseMLP. The ELBO at ρ = 0. Nats per image.

    Reference:
        Moran, Sridhar, Wang & Blei 2022, https://arxiv.org/abs/2110.10804.

    Args:
        data: shape, measure, mean and number N of the images.
        slab, spike: λ₁ and λ₀, 0 < λ₁ ≤ λ₀.
        penalty: ρ ≥ 0; 1 is the mode of the posterior of W.
        likelihood: builds p(x|z); None takes the natural one of the measure with a SparseMLP.
        parts: latent, posterior, prior, lr, surrogate; see `Family`.

    Raises:
        UserError: the likelihood's network has no mask, or N is not known.
    """

    RANGES = {"slab": POSITIVE, "spike": POSITIVE}

    NEUTRAL = {"penalty": 0.0}

    slab: Tensor
    spike: Tensor
    penalty: Tensor
    mixing: Tensor

    def __init__(
        self,
        data: DataSpec,
        slab: float = 1.0,
        spike: float = 10.0,
        penalty: float = 1.0,
        likelihood: Callable[[Shape, DataSpec], Likelihood] | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(data, likelihood=likelihood or partial(natural(data), net=SparseMLP), **parts)
        if not isinstance(self.likelihood.net, SparseMLP):
            raise UserError("SparseVAE decodes through a mask; set likelihood.net to vaebench.networks.SparseMLP")
        if data.size is None:
            raise UserError("SparseVAE needs the number of training images; give data.size")
        self.size = data.size
        self.register_buffer("mixing", torch.full(self.likelihood.net.mask.shape[1:], 0.5))
        self.hyper(slab=slab, spike=spike, penalty=penalty)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms, mask = self.terms(x, y), self.likelihood.net.mask
        log_prior, inclusion = spike_and_slab(mask, self.mixing, self.slab, self.spike)
        mixing = (inclusion.sum(0) / (2 * len(mask) - 1)).clamp(1e-6, 1 - 1e-6)
        loss = -terms.elbo.mean() - self.penalty * log_prior / self.size
        return Step({"model": loss}, terms.logs | {"included": inclusion.mean()}, {"mixing": mixing})
