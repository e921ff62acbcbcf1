"""Models that pythae 0.1 saved (https://github.com/clementchadebec/benchmark_VAE), with its default networks.

FOLDER/model_config.json   the class of the configuration, under `name`, and its settings
FOLDER/model.pt            {"model_state_dict": …}
FOLDER/encoder.pkl, …      networks of the user's own, pickled, which are never opened
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from vaebench.adapters.folders import OWN, fill, numbers, plain, read_settings, read_weights
from vaebench.adapters.foreign import Foreign
from vaebench.adapters.parts import Autoencoder, Density, Point, gaussian, of_probabilities
from vaebench.adapters.perceptrons import Decoder, Encoder
from vaebench.errors import UserError, unknown
from vaebench.measures import BINARY, CONTINUOUS, DataSpec

GAUSSIAN = ("VAE", "BetaVAE", "BetaTCVAE", "DisentangledBetaVAE", "FactorVAE", "IWAE", "CIWAE", "MIWAE", "PIWAE",
            "INFOVAE_MMD", "MSSSIM_VAE", "VAEGAN", "Adversarial_AE")  # fmt: skip
"""Classes with a Gaussian q(z|x) and the prior N(0, I)."""
POINTS = {"AE": False, "RAE_L2": False, "RAE_GP": False, "WAE_MMD": True}
"""Classes that encode to points, and whether N(0, I) is their prior."""
WITHOUT = {"MSSSIM_VAE": "MS-SSIM", "VAEGAN": "a discriminator's features"}  # what stands for log p(x|z) in their loss
LOSSES = {"bce": BINARY, "mse": CONTINUOUS}


def open_folder(folder: Path, spec: DataSpec) -> Foreign:
    """A saved model, for images of a shape and measure.

    Where the loss that it was trained with is no log-probability of such images, p(x|z) has no density.

    Raises:
        UserError: it is no folder of pythae's, its class or its networks are not supported, or it is of other images.
    """
    settings = read_settings(folder, "model_config.json")
    name = str(settings.get("name", "")).removesuffix("Config").removesuffix("_")
    if name not in (*GAUSSIAN, *POINTS):
        raise unknown("class of pythae's", name, [*GAUSSIAN, *POINTS], f"For others {OWN}.")
    if not (settings.get("uses_default_encoder") is True and settings.get("uses_default_decoder") is True):
        raise UserError(
            f"'{folder}' has networks of its own in encoder.pkl or decoder.pkl, and pickles are not opened: expected "
            f"pythae's default ones; {OWN}"
        )
    shape, (latent,) = numbers(folder, settings, "input_dim"), numbers(folder, settings, "latent_dim")[:1]
    require_shape(folder, shape, spec)
    path = folder / "model.pt"
    weights = read_weights(path)
    networks = nn.ModuleDict({"encoder": Encoder(shape, latent, gaussian=name in GAUSSIAN),
                              "decoder": Decoder(shape, latent)})  # fmt: skip
    fill(networks, {key: value for key, value in weights.items() if key.split(".")[0] in networks}, path)
    model = Autoencoder(
        networks["encoder"],
        networks["decoder"],
        _density(name, settings, spec),
        latent if name in GAUSSIAN or POINTS[name] else None,
    )
    return Foreign(model, "pythae", f"pythae.{name}", plain(settings))


def require_shape(folder: Path, shape: tuple[int, ...], spec: DataSpec) -> None:
    """Raises a UserError unless a model of images of a shape can take those of a specification."""
    if shape != spec.shape:
        raise UserError(
            f"'{folder}' is a model of images of shape {shape}, and these have {spec.shape}: expected those that it "
            "was trained on; give them with --data"
        )


def _density(name: str, settings: dict[str, Any], spec: DataSpec) -> Density:
    if name in WITHOUT or name in POINTS:
        what = WITHOUT.get(name, "an error of images")
        return lambda image: Point(image, 3, f"{name} is trained with {what}, which is no log-probability of images")
    loss = str(settings.get("reconstruction_loss", "mse"))
    measure = LOSSES.get(loss)
    if measure == spec.kind:
        return of_probabilities if loss == "bce" else gaussian(1.0)
    reason = (
        f"it is trained with the loss '{loss}', which is a log-probability of {measure or 'no'} images, and these are "
        f"'{spec.measure}'"
    )
    return lambda image: Point(image, 3, reason)
