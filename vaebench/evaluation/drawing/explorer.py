"""A page that decodes while its reader moves the units of a code, and the traversals of these units as pictures.

    <folder>/index.html       the page
    <folder>/explorer.js      what it does
    <folder>/unit-<j>.png     frames of unit j: a row for each image that it starts from, a column for each stop
    <folder>/unit-<j>.gif     the same in motion
    <folder>/decoder.onnx     z -> E[x|z]
    <folder>/decoder.js       the same, and …
    <folder>/runtime.js       … onnxruntime-web as scripts, for a page in a folder may read no other files

The last three are there where the decoder could be exported, and the last two where onnxruntime-web is at hand; without
them a slider shows the frames of its unit.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from skimage.util import montage
from torch import Tensor

from vaebench._version import __version__
from vaebench.core import LatentModel
from vaebench.errors import Unavailable
from vaebench.evaluation.conditions import Conditioned, declared, for_images
from vaebench.evaluation.drawing.pictures import REACH, STOPS, require_floats, rgb, tiled
from vaebench.evaluation.estimators.draws import sample_posterior
from vaebench.evaluation.estimators.latents import ACTIVE, between
from vaebench.evaluation.estimators.moments import Moments
from vaebench.evaluation.estimators.reconstruction import code, mean_image
from vaebench.evaluation.images import batch_size
from vaebench.evaluation.subject import Subject
from vaebench.files.templates import templates
from vaebench.traits import EUCLIDEAN, PosteriorTraits

HERE = Path(__file__).parent
STARTS, UNITS = 6, 12  # images to start from, and sliders, at most
IMAGES, SAMPLES = 1000, 32  # for the range of every unit, and for means that have no closed form
PAUSE = 90  # milliseconds a frame


class Unit(NamedTuple):
    """A unit of the code that moves the image.

    Attributes:
        number: in the flattened code.
        variance: Var_x(E_q[z_j]).
        centre, sd: of its samples over the images.
        frames: decoded codes while it moves from −3 to 3 standard deviations, (stops, starts, *data).
    """

    number: int
    variance: float
    centre: float
    sd: float
    frames: Tensor


class Explored(NamedTuple):
    """The codes to start from, and the units to move.

    Attributes:
        model: restricted to the images that it starts from, where it is conditional.
        z: their codes, (starts, *latent).
        units: the most active first.
        active: number of active units.
        total: number of units.
        unread: number of active units that the decoder does not look at.
        labels: those of the test images that a conditional model was given, in order; none for any other.
    """

    model: LatentModel
    z: Tensor
    units: list[Unit]
    active: int
    total: int
    unread: int
    labels: list[int]


def explored(subject: Subject) -> Explored:
    """Finds the active units by Var_x(E_q[z_j]) > 0.01 and decodes their traversals; call it inside `evaluation_mode`.

    Raises:
        Unavailable: the likelihood has no mean in closed form, codes are not numbers that can be moved alone, or no
            unit is active.
    """
    traits = PosteriorTraits.of(declared(subject.model).posterior)
    if traits.discrete:
        raise Unavailable("its codes are discrete, and have nothing between them to slide through")
    if traits.space != EUCLIDEAN:
        raise Unavailable(f"its codes lie in {traits.space}, where no unit moves alone")
    some = subject.some(IMAGES).to(subject.device)
    if len(some) < 2:
        raise Unavailable("one image has no variance")
    samples = sample_posterior(for_images(subject.model, some), subject.x[some], SAMPLES, subject.seed).flatten(2)
    variances = _variances(subject, samples)
    order = [j for j in variances.argsort(descending=True, stable=True).tolist() if variances[j] > ACTIVE]
    first = subject.some(STARTS).to(subject.device)
    model = for_images(subject.model, first)
    z, _ = code(model, subject.x[first], subject.seed)
    require_floats(z)
    units, unread = [], 0
    for j in order:
        centre, sd = float(samples[0, :, j].mean()), float(samples[0, :, j].std())
        frames = _traversal(model, z, j, centre, sd)
        if bool((frames == frames[:1]).all()):
            unread += 1
            continue
        units.append(Unit(j, float(variances[j]), centre, sd, frames))
        if len(units) == UNITS:
            break
    if not units:
        raise Unavailable(f"none of its {len(variances)} units both varies with the image and changes what is decoded")
    labels = subject.model.y.unique().tolist() if isinstance(subject.model, Conditioned) else []
    return Explored(model, z, units, len(order), len(variances), unread, labels)


def _variances(subject: Subject, samples: Tensor) -> Tensor:
    """Var_x(E_q[z_j]) of every unit, (units,); from samples (k, n, units) where E_q[z] has no closed form."""
    mean = subject.latents.mean
    if mean is not None and mean.shape[1] == samples.shape[2]:
        return Moments.of(mean).variance
    return between(samples.double().unflatten(0, (2, -1)).mean(1).cpu())


def _traversal(model: LatentModel, z: Tensor, unit: int, centre: float, sd: float) -> Tensor:
    """Decoded codes z (starts, *latent) while a unit moves: (stops, starts, *data)."""
    stops = centre + sd * torch.linspace(-REACH, REACH, STOPS, dtype=z.dtype, device=z.device)
    moved = z.flatten(1).repeat(STOPS, 1, 1)
    moved[..., unit] = stops[:, None]
    moved = moved.unflatten(-1, z.shape[1:])
    rows = max(1, batch_size(mean_image(model, moved[:1])[0], len(moved) * len(z)) // len(z))
    return torch.cat([mean_image(model, some) for some in moved.split(rows)])


def write_explorer(
    folder: Path, found: Explored, title: str, decoder: bytes | None = None, runtime: Mapping[str, bytes] | None = None
) -> None:
    """Writes the page and all that it needs into a folder.

    Args:
        folder: exists and is empty.
        found: from `explored`.
        title: names the model.
        decoder: from `onnx_decoder`.
        runtime: the files of onnxruntime-web that the page takes, by name.
    """
    for unit in found.units:
        _draw(folder, unit)
    if decoder is not None:
        (folder / "decoder.onnx").write_bytes(decoder)
    if decoder is not None and runtime is not None:
        (folder / "decoder.js").write_text(f"const DECODER = {_packed(decoder)};\n", "utf-8")
        texts = ", ".join(f"{json.dumps(name)}: {_packed(content)}" for name, content in runtime.items())
        (folder / "runtime.js").write_text(f"const RUNTIME = {{{texts}}};\n", "utf-8")
    (folder / "explorer.js").write_text((HERE / "explorer.js").read_text("utf-8"), "utf-8")
    page = templates(HERE).get_template("explorer.html").render(
        title=title,
        found=found,
        decoding=decoder is not None and runtime is not None,
        reach=REACH,
        facts=json.dumps(_facts(found)).replace("<", "\\u003c"),
        version=__version__,
    )  # fmt: skip
    (folder / "index.html").write_text(page, "utf-8")


def _draw(folder: Path, unit: Unit) -> None:
    """Writes the frames of a unit as one picture, and in motion."""
    rows = unit.frames.transpose(0, 1).flatten(0, 1)  # (starts * stops, *data)
    sheet = montage(rgb(rows), grid_shape=(len(unit.frames[0]), STOPS), channel_axis=-1)
    Image.fromarray(sheet).save(folder / f"unit-{unit.number}.png")
    there = [Image.fromarray(tiled(frame)) for frame in unit.frames]
    and_back = there[-2:0:-1]
    there[0].save(folder / f"unit-{unit.number}.gif", save_all=True, append_images=[*there[1:], *and_back],
                  duration=PAUSE, loop=0)  # fmt: skip


def _packed(content: bytes) -> str:
    return json.dumps(base64.b64encode(gzip.compress(content, mtime=0)).decode())


def _facts(found: Explored) -> dict[str, Any]:
    """What the page's script reads."""
    return {
        "shape": list(found.units[0].frames.shape[2:]),
        "latent": list(found.z.shape[1:]),
        "starts": found.z.flatten(1).tolist(),
        "labels": found.model.y.tolist() if isinstance(found.model, Conditioned) else None,
        "units": [{"number": u.number, "centre": u.centre, "sd": u.sd} for u in found.units],
        "reach": REACH,
        "stops": STOPS,
    }
