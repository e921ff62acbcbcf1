"""Posteriors fitted to each image at evaluation: the best Gaussian or flow for it.

They need no density of the encoder's q, and so bound log p(x) for deterministic encoders too. Where q has a density,
they split its gap into an amortisation gap and an approximation gap (Cremer, Li & Duvenaud 2018,
https://arxiv.org/abs/1801.03558). A fit depends only on its image and on the noise keyed by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from vaebench.core import LatentModel
from vaebench.errors import Unavailable, UserError, absence
from vaebench.evaluation.conditions import start_noise
from vaebench.evaluation.estimators.draws import sample
from vaebench.evaluation.estimators.likelihood import VALUES
from vaebench.evaluation.estimators.local import Posteriors

SMALL = 0.1  # initial standard deviation where the encoder gives none
STEP_BLOCK = 16  # steps per seeding of an image's noise; part of the definition of a seed
SCORE_BLOCK = 1000  # scored samples per seeding
CHECKED = 256  # samples that decide whether a fit is better than its start
ENCODED, FITTING, CHECKING, SCORING = ((i + 16) << 32 for i in range(4))  # streams of an image's noise


def encoded(model: LatentModel, x: Tensor, keys: list[bytes]) -> tuple[Posteriors, bool]:
    """The diagonal Gaussian with the mean and the standard deviations of the encoder's q(z|x), and whether it is q.

    Where q has none in closed form they are those of 256 samples; a standard deviation of zero becomes `SMALL`.

    Args:
        model: anything with a posterior that has a mean or can be sampled.
        x: images, (b, *data), on the model's device.
        keys: of their noise.

    Raises:
        Unavailable: the posterior cannot be sampled.
    """
    locs, scales, same = [], [], True
    for image, key in zip(x, keys, strict=True):
        with torch.no_grad():
            q = model.posterior(image[None])
            loc, scale = _moments(q, key, x.device)
        same = same and isinstance(q, Independent) and isinstance(q.base_dist, Normal)
        locs.append(loc.flatten(1))
        scales.append(scale.flatten(1))
    loc, scale = torch.cat(locs), torch.cat(scales)
    return Posteriors(loc, scale, torch.zeros_like(loc), torch.zeros_like(loc)), same


def _moments(q: Distribution, key: bytes, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviations of q, in closed form or from samples."""
    start_noise(key, ENCODED, device)
    with absence("the posterior cannot be sampled"):
        z = sample(q, 256)
    try:
        with absence("the posterior has no mean in closed form"):
            loc = q.mean
    except Unavailable:
        loc = z.mean(0)
    try:
        with absence("the posterior has no standard deviation in closed form"):
            scale = q.stddev
    except Unavailable:
        scale = z.std(0)
    return loc, torch.where(scale > 0, scale, SMALL)


LogJoint = Callable[[Tensor], Tensor]


def _joint(model: LatentModel, x: Tensor) -> LogJoint:
    """z (b, k, d) -> log p(x, z), nats, (b, k)."""
    prior, likelihood = model.prior(), model.likelihood

    def log_joint(z: Tensor) -> Tensor:
        z = z.transpose(0, 1).unflatten(-1, prior.event_shape)
        return (prior.log_prob(z) + likelihood(z).log_prob(x)).mT

    return log_joint


def fit(
    model: LatentModel,
    x: Tensor,
    q: Posteriors,
    keys: list[bytes],
    steps: int = 300,
    samples: int = 16,
    lr: float = 0.1,
) -> Posteriors:
    r"""Maximises the ELBO of each image over its own posterior, starting at q.

    .. math:: \max_{\phi} E_{\epsilon}[\log p(x, z_\phi(\epsilon)) - \log q_\phi(z_\phi(\epsilon))]

    by Adam with a cosine decay of the learning rate to zero, on the path derivative alone, which has no variance where
    q is exact (Roeder et al. 2017, https://arxiv.org/abs/1703.09194). An image keeps its start unless the fit is better
    by two standard errors on `CHECKED` fresh samples.

    Args:
        model: anything with a prior and a likelihood.
        x: images, (b, *data), on the model's device.
        q: initial posteriors.
        keys: of the images' noise.
        steps: of Adam.
        samples: of each image at each step.
        lr: of Adam, in the start's standard deviations.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x, q = x.clone(), Posteriors(q.origin.clone(), q.unit.clone(), *q[2:])
        log_joint = _joint(model, x)
        tensors = [tensor.detach().clone().requires_grad_() for tensor in q.fitted()]
        # Gradients are in nats per standard deviation: `eps` keeps Adam from amplifying negligible ones.
        adam = torch.optim.Adam(tensors, lr=lr, betas=(0.9, 0.99), eps=1e-3)
        for step, noise in enumerate(_step_noise(keys, steps, samples, q.origin)):
            now = q.replaced(tensors)
            z, _ = now.from_noise(noise)
            bound = (log_joint(z) - now.replaced([t.detach() for t in tensors]).log_prob(z)).mean(1)
            for tensor, slope in zip(tensors, torch.autograd.grad(-bound.sum(), tensors), strict=True):
                tensor.grad = slope.nan_to_num_(0, 0, 0)
            adam.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
            adam.step()
        after = q.replaced([tensor.detach() for tensor in tensors])
    better = _surely_better(model, x, after, q, keys)
    chosen = [
        torch.where(better.reshape(-1, *[1] * (a.dim() - 1)), a, b)
        for a, b in zip(after.fitted(), q.fitted(), strict=True)
    ]
    return q.replaced(chosen)


def _step_noise(keys: list[bytes], steps: int, samples: int, like: Tensor) -> Iterator[Tensor]:
    """ε of every step, (b, samples, d)."""
    for done in range(0, steps, STEP_BLOCK):
        draws = torch.stack([_normal(key, FITTING + done // STEP_BLOCK, (STEP_BLOCK, samples), like) for key in keys])
        yield from draws.unbind(1)[: steps - done]


def _normal(key: bytes, block: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
    start_noise(key, block, like.device)
    return torch.randn(*shape, like.shape[-1], dtype=like.dtype, device=like.device)


@torch.no_grad()
def _surely_better(model: LatentModel, x: Tensor, new: Posteriors, old: Posteriors, keys: list[bytes]) -> Tensor:
    """Whether the ELBO of `new` exceeds that of `old` by two standard errors under common noise: (b,)."""
    ours, theirs = (torch.cat(list(_weights(model, x, q, keys, CHECKED, CHECKING)), 1) for q in (new, old))
    rise = ours - theirs
    return rise.mean(1) > 2 * rise.std(1) / math.sqrt(CHECKED)


@torch.no_grad()
def log_weights(
    model: LatentModel, x: Tensor, q: Posteriors, keys: list[bytes], k: int, names: Sequence[int] | None = None
) -> Tensor:
    """log p(x, z) − log q(z|x) of k fresh samples of each image, nats, float64 (k, b), under noise common to all q.

    Their mean is the ELBO of q and their log-mean-exp the bound L_K; neither exceeds log p(x) in expectation, for any
    fit.

    Args:
        model: anything with a prior and a likelihood.
        x: images, (b, *data), on the model's device.
        q: of each image.
        keys: of the images' noise.
        k: samples.
        names: of the images, for messages; default: their places in x.

    Raises:
        UserError: a weight that is not finite.
    """
    log_w = torch.cat(list(_weights(model, x, q, keys, k, SCORING)), 1).mT
    wrong = ~torch.isfinite(log_w).all(0)
    if wrong.any():
        name = (names or range(len(x)))[int(wrong.nonzero()[0])]
        raise UserError(
            f"the posterior fitted to image {name} has a weight that is not finite, where "
            "log p(x|z) and log p(z) must be; look for diverged weights or a likelihood that excludes the image"
        )
    return log_w


def _weights(model: LatentModel, x: Tensor, q: Posteriors, keys: list[bytes], k: int, stream: int) -> Iterator[Tensor]:
    """Log weights of k samples, float64 (b, some) at a time."""
    log_joint = _joint(model, x)
    rows = max(1, VALUES.get(x.device.type, VALUES["cuda"]) // x.numel())
    for done in range(0, k, SCORE_BLOCK):
        size = min(SCORE_BLOCK, k - done)
        noise = torch.stack([_normal(key, stream + done // SCORE_BLOCK, (size,), q.origin) for key in keys])
        for some in noise.split(rows, 1):
            z, log_q = q.from_noise(some)
            yield log_joint(z).double() - log_q.double()
