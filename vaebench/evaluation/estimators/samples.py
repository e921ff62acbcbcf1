"""Images from a model: draws or means of p(x|z), for samples of the prior or codes of test images.

Draws x ~ p(x|z) of a perfect model are distributed as the data, so that draws are compared with images. Papers mostly
show means E[x|z], which are too smooth even for a perfect model.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebench.core import LatentModel
from vaebench.errors import absence
from vaebench.evaluation.estimators.draws import sample
from vaebench.evaluation.estimators.reconstruction import mean_image
from vaebench.evaluation.images import Stack, parts

BATCH = 250


def prior_codes(model: LatentModel, n: int) -> Tensor:
    """n samples z ~ p(z), (n, *latent), from the current random state; call it inside `evaluation_mode`.

    Raises:
        Unavailable: the prior cannot be sampled.
    """
    return _sampled("prior", model.prior(), n)


def posterior_codes(model: LatentModel, x: Stack) -> Tensor:
    """One sample z ~ q(z|x) of each image x (n, *data): (n, *latent), from the current random state.

    Raises:
        Unavailable: the posterior cannot be sampled.
    """
    return torch.cat([_sampled("posterior", model.posterior(part), 1)[0] for part in parts(x, BATCH)])


def sample_images(model: LatentModel, z: Tensor) -> Tensor:
    """One image x ~ p(x|z) for each z (n, *latent), clipped to [0, 1]: (n, *data), from the current random state.

    Raises:
        Unavailable: the likelihood cannot be sampled.
    """
    made = [_sampled("likelihood", model.likelihood(part[None]), 1)[0, 0] for part in z.split(BATCH)]
    return torch.cat(made).clamp(0, 1)


def mean_images(model: LatentModel, z: Tensor) -> Tensor:
    """E[x|z] for each z (n, *latent), clipped to [0, 1]: (n, *data).

    Raises:
        Unavailable: the likelihood has no mean in closed form.
    """
    return torch.cat([mean_image(model, part[None])[0] for part in z.split(BATCH)]).clamp(0, 1)


def _sampled(part: str, p: Distribution, n: int) -> Tensor:
    with absence(f"the {part}, {type(p).__name__}, cannot be sampled"):
        return sample(p, n)
