"""The VAE whose encoder takes several steps for each of the decoder's."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step


@final
class EncoderStepsVAE(Family):
    r"""k encoder steps a decoder step, on the ELBO.

    .. math:: \phi_{t+1} = \phi_t + \eta \nabla_\phi L(x_t), \qquad
              \theta_{t+1} = \theta_t + [(t + 1) \bmod k = 0]\;\eta \nabla_\theta L(x_t)

    The encoder learns from every batch and the decoder from every k-th, so that q(z|x) does not lag behind p(z|x). A
    plain VAE at k = 1; at equal numbers of batches the decoder has learnt from a k-th of them. Nats per image.

    Reference:
        He et al. 2019, whose rule finds the number (`AggressiveVAE`),
        https://arxiv.org/abs/1901.05534.

    Args:
        data: shape, measure and mean of the images.
        k: encoder steps a decoder step, ≥ 1.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    k: Tensor

    def __init__(self, data: DataSpec, k: int = 5, **parts: Any) -> None:
        super().__init__(data, **parts)
        self.hyper(k=k)

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"encoder": ("posterior",), "decoder": ("likelihood", "prior")}

    def active(self, t: Tensor) -> dict[str, Tensor]:
        return {"decoder": (t + 1) % self.k == 0}

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        loss = -terms.elbo.mean()
        return Step({"encoder": loss, "decoder": loss}, terms.logs)
