"""Networks of features by the names that protocols give them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vaebench.configuration import own
from vaebench.errors import UserError, unknown
from vaebench.evaluation import own_code
from vaebench.evaluation.estimators.features import NAMED, Extractor
from vaebench.measures import DataSpec


def extractor(name: str, spec: DataSpec, device: torch.device) -> Extractor:
    """The network of a name, or of the function at a path of the user's own.

    Raises:
        Unavailable: its weights are not here, or it takes no such images.
        UserError: there is none of that name, or the user's function gives none.
    """
    if name in NAMED:
        return NAMED[name](spec.shape, device)
    if (path := own_code.path_of(name)) is None:
        raise unknown("network of features", name, NAMED, "Give one of these, or your mymodule:function.")
    network = own_code.built(path)
    if not callable(network):
        raise UserError(
            f"'{name}' gives a {type(network).__name__}: expected a network from images (b, c, h, w) to features "
            "(b, d); mend it"
        )
    digest = hashlib.sha256(repr(own.hashed(own.sources([path]))).encode())
    if isinstance(network, nn.Module):
        network = network.to(device).eval()
        for key, value in sorted(network.state_dict().items()):
            digest.update(key.encode() + value.detach().cpu().contiguous().float().numpy().tobytes())
    return Extractor(path, digest.hexdigest(), _flat(path, network))


def _flat(path: str, network: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    """The network, whose features are checked."""

    def features(images: Tensor) -> Tensor:
        made = own_code.guarded(path, lambda: network(images))
        if not isinstance(made, Tensor) or made.dim() != 2 or len(made) != len(images):
            what = f"a tensor {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
            raise UserError(f"the network of '{path}' gives {what}: expected features ({len(images)}, d); mend it")
        return made

    return features
