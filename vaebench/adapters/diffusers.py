"""Autoencoders of diffusers (https://github.com/huggingface/diffusers) in a folder: AutoencoderKL and VQModel.

    FOLDER/config.json                               the class, under `_class_name`, and its settings
    FOLDER/diffusion_pytorch_model.safetensors       its weights; or .bin, one of torch's files

A folder may also be named as OWNER/NAME, or OWNER/NAME/FOLDER, of the Hugging Face Hub, where its cache has it.

They take and give images in [−1, 1], and have no density of images: they are trained with perceptual losses.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebench.adapters.folders import fill, plain, read_settings, read_weights
from vaebench.adapters.foreign import Foreign
from vaebench.adapters.parts import Autoencoder, Point, in_pieces
from vaebench.distributions.codes import Categorical, PointMass
from vaebench.errors import UserError, unknown
from vaebench.functional.quantisation import looked_up, nearest_codes
from vaebench.measures import DataSpec

CLASSES = ("AutoencoderKL", "VQModel")
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
LOSS = "it is trained with a perceptual and an adversarial loss, which are no log-probability of images"


def cached(name: str) -> Path | None:
    """The folder of a model of the Hub, OWNER/NAME or OWNER/NAME/FOLDER, in its cache; None where that has none."""
    owner, _, rest = name.partition("/")
    model, *inside = rest.split("/")
    try:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(f"{owner}/{model}", "/".join([*inside, "config.json"]))
    except (ImportError, ValueError):  # not installed, or no such name can be
        return None
    return Path(found).parent if isinstance(found, str) else None


def open_folder(folder: Path, spec: DataSpec) -> Foreign:
    """A saved autoencoder, for images of a shape.

    Raises:
        UserError: diffusers is not installed, it is no folder of diffusers', its class is not supported, or it is of
            images with another number of channels.
    """
    settings = read_settings(folder, "config.json")
    name = str(settings.get("_class_name", ""))
    if name not in CLASSES:
        raise unknown("class of diffusers'", name, CLASSES, f"It is that of '{folder}'.")
    channels = settings.get("in_channels", 3)
    if channels != spec.shape[0]:
        raise UserError(
            f"'{folder}' is a model of images of {channels} channels, and these have {spec.shape[0]}: expected as "
            "many; set data.colour to rgb or grey, or give other images with --data"
        )
    path = next((folder / file for file in WEIGHTS if (folder / file).is_file()), folder / WEIGHTS[0])
    weights = read_weights(path)
    network = _built(folder, name, settings)
    fill(network, weights, path)
    model = (Continuous if name == "AutoencoderKL" else Quantised)(network, spec)
    return Foreign(model, "diffusers", f"diffusers.{name}", plain(settings))


def _built(folder: Path, name: str, settings: dict[str, Any]) -> Any:
    """The network of the installed diffusers, with its first weights."""
    try:
        diffusers = import_module("diffusers")
    except ImportError as error:
        raise UserError(
            f"'{folder}' is a model of diffusers, which cannot be imported ({error}): expected it installed; run "
            "pip install diffusers"
        ) from error
    cls = {"AutoencoderKL": diffusers.AutoencoderKL, "VQModel": diffusers.VQModel}[name]
    try:
        return cls.from_config({key: value for key, value in settings.items() if key[:1] != "_"})
    except Exception as error:  # whatever diffusers makes of someone's settings
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"diffusers builds no {name} from the settings of '{folder}' ({type(error).__name__}: {reason}): expected "
            "those that it saved; put an intact config.json there, or install the version that it names"
        ) from error


class Continuous(Autoencoder):
    """AutoencoderKL: q(z|x) = N(μ(x), σ²(x)) over a grid (channels, h, w), and the prior N(0, I) of its KL term.

    Args:
        network: diffusers'.
        spec: of the images.
    """

    def __init__(self, network: Any, spec: DataSpec) -> None:
        def parameters(x: Tensor) -> Tensor:
            return network.encode(2 * x - 1).latent_dist.parameters

        def encode(x: Tensor) -> tuple[Tensor, Tensor]:
            mean, log_variance = in_pieces(parameters, x, spec.dimensions).chunk(2, 1)
            return mean, log_variance.clamp(-30, 20)  # as diffusers clamps it

        double, *grid = _grid(parameters, spec)
        super().__init__(encode, _decoder(network, spec), _point, (double // 2, *grid))


class Quantised(Autoencoder):
    """VQModel: each place of a grid takes the nearest of k codes; the prior is uniform over all.

    Args:
        network: diffusers'.
        spec: of the images.
    """

    def __init__(self, network: Any, spec: DataSpec) -> None:
        def encode(x: Tensor) -> Tensor:
            return network.encode(2 * x - 1).latents

        width, height, across = _grid(encode, spec)
        places, size = height * across, network.config.num_vq_embeddings
        decode = _decoder(network, spec)

        def book() -> Tensor:
            return network.quantize.embedding.weight[None]  # (1, k, width)

        def posterior(x: Tensor) -> Distribution:
            def codes(some: Tensor) -> Tensor:
                vectors = encode(some).flatten(2).transpose(1, 2)[..., None, :]  # (b, places, 1, width)
                return looked_up(nearest_codes(vectors, book()), book()).flatten(1)

            return PointMass(in_pieces(codes, x, max(spec.dimensions, places * size)), book(), places)

        def prior() -> Distribution:
            return Categorical(book().new_zeros(places, size), book(), places)

        def image(z: Tensor) -> Tensor:
            return decode(z.unflatten(-1, (height, across, width)).movedim(-1, -3))

        super().__init__(posterior, image, _point, prior=prior)


def _point(image: Tensor) -> Point:
    return Point(image, 3, LOSS)


def _decoder(network: Any, spec: DataSpec) -> Callable[[Tensor], Tensor]:
    """From codes (b, *latent) to images in [0, 1]; VQModel quantises codes once more, which leaves them as they are."""
    return lambda z: in_pieces(lambda some: (network.decode(some).sample / 2 + 0.5).clamp(0, 1), z, spec.dimensions)


def _grid(encode: Callable[[Tensor], Tensor], spec: DataSpec) -> tuple[int, int, int]:
    """Channels, height and width of what an encoder gives for an image.

    Raises:
        UserError: it takes no images of this shape.
    """
    try:
        with torch.no_grad():
            made = encode(torch.zeros(1, *spec.shape))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"this model of diffusers takes no images of shape {spec.shape} ({reason}): expected sides that its "
            "strides divide; set data.resize"
        ) from error
    _, channels, height, width = made.shape
    return channels, height, width
