"""One modality of a model that MultiVae 1.0 saved (https://github.com/AgatheSenellart/MultiVae), with default networks.

    FOLDER/model_config.json   the class of the configuration, under `name`, and its settings; `input_dims` by modality
    FOLDER/model.pt            {"model_state_dict": …}
    FOLDER/encoders.pkl, …     networks of the user's own, pickled, which are never opened

q(z|x) is what the model encodes from that modality alone, and p(x|z) its decoder of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Laplace

from vaebench.adapters.folders import OWN, fill, numbers, plain, read_settings, read_weights
from vaebench.adapters.foreign import Foreign
from vaebench.adapters.parts import Autoencoder, Density, Point, gaussian, of_logits
from vaebench.adapters.perceptrons import Decoder, Encoder
from vaebench.adapters.pythae import require_shape
from vaebench.errors import UserError, unknown
from vaebench.measures import BINARY, CONTINUOUS, DataSpec

CLASSES = ("JMVAE", "MVAE", "MVTCAE", "MoPoE")  # with Gaussian posteriors of each modality and the prior N(0, I)
JITTER = 1e-8  # that MVTCAE and MoPoE add to a variance
MEASURES = {"bernoulli": BINARY, "normal": CONTINUOUS, "laplace": CONTINUOUS}


class Expert(nn.Module):
    """q(z|x) of one modality alone, as the class's own `encode` has it: mean and log-variance.

    Args:
        encoder: of the modality, to mean and log-variance.
        name: of the class. MVAE's posterior is a product with the prior.
    """

    def __init__(self, encoder: nn.Module, name: str) -> None:
        super().__init__()
        self.encoder, self.name = encoder, name

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(x)
        if self.name == "MVAE":
            log_precision = torch.logaddexp(-log_variance, torch.zeros_like(log_variance))
            return mean * (-log_variance - log_precision).exp(), -log_precision
        if self.name in ("MVTCAE", "MoPoE"):
            return mean, (log_variance.exp() + JITTER).log()
        return mean, log_variance


def open_folder(folder: Path, spec: DataSpec, modality: str = "") -> Foreign:
    """A saved model, for images of a shape and measure.

    Args:
        folder: of the model.
        spec: of the images.
        modality: its name; default: the only one of the images' shape.

    Raises:
        UserError: it is no folder of MultiVae's, its class or its networks are not supported, it has no such modality,
            or the modality is of other images.
    """
    settings = read_settings(folder, "model_config.json")
    name = str(settings.get("name", "")).removesuffix("Config")
    if name not in CLASSES:
        raise unknown("class of MultiVae's", name, CLASSES, f"For others {OWN}.")
    if settings.get("custom_architectures") or settings.get("modalities_specific_dim"):
        raise UserError(
            f"'{folder}' has networks of its own, pickled, or latents of single modalities: expected MultiVae's "
            f"default networks and one latent space; {OWN}"
        )
    modality, shape = _modality(folder, settings, spec, modality)
    (latent, *_) = numbers(folder, settings, "latent_dim")
    path = folder / "model.pt"
    weights = read_weights(path)
    networks = nn.ModuleDict({"encoders": Encoder(shape, latent, hidden=2), "decoders": Decoder(shape, latent)})
    ours = {key: value for key, value in weights.items() if key.split(".")[:2] in
            (["encoders", modality], ["decoders", modality])}  # fmt: skip
    fill(networks, {key.replace(f".{modality}.", ".", 1): value for key, value in ours.items()}, path)
    density = _density(folder, settings, spec, modality)
    model = Autoencoder(Expert(networks["encoders"], name), networks["decoders"], density, latent)
    return Foreign(model, "multivae", f"multivae.{name}", {"modality": modality, **plain(settings)})


def _modality(folder: Path, settings: dict[str, Any], spec: DataSpec, wanted: str) -> tuple[str, tuple[int, ...]]:
    known = settings.get("input_dims")
    if not isinstance(known, dict) or not known:
        raise UserError(f"'{folder}' does not say the shapes of its modalities (input_dims): {OWN}")
    shapes = {str(one): numbers(folder, known, one) for one in known}
    if wanted and wanted not in shapes:
        raise unknown("modality", wanted, shapes, f"It is of '{folder}'.")
    fitting = [one for one, shape in shapes.items() if shape == spec.shape]
    if not wanted and len(fitting) != 1:
        listed = ", ".join(f"{one} {shape}" for one, shape in shapes.items())
        raise UserError(
            f"'{folder}' has the modalities {listed}, and {len(fitting) or 'none'} of them has images of shape "
            f"{spec.shape}: expected one; name it, as in --adapter multivae:FOLDER:{next(iter(shapes))}"
        )
    modality = wanted or fitting[0]
    require_shape(folder, shapes[modality], spec)
    return modality, shapes[modality]


def _density(folder: Path, settings: dict[str, Any], spec: DataSpec, modality: str) -> Density:
    name = str((settings.get("decoders_dist") or {}).get(modality, "normal"))
    given = (settings.get("decoder_dist_params") or {}).get(modality) or {}
    scale = given.get("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < 1e6:
        raise UserError(
            f"'{folder}' gives {modality} the scale {scale!r}: expected a number above 0; mend its settings"
        )
    if MEASURES.get(name) != spec.kind:
        reason = (
            f"its decoder's distribution is '{name}', of {MEASURES.get(name, 'no')} images, and these are "
            f"'{spec.measure}'"
        )
        return lambda image: Point(image, 3, reason)

    def laplace(mean: Tensor) -> Distribution:
        return Independent(Laplace(mean, torch.full_like(mean, scale), validate_args=False), 3, validate_args=False)

    return {"bernoulli": of_logits, "normal": gaussian(float(scale)), "laplace": laplace}[name]
