"""The page on which the decoder of a model is explored."""

from __future__ import annotations

from pathlib import Path

from vaebench.adapters import Foreign
from vaebench.configuration import own
from vaebench.data.base import ImageData
from vaebench.data.cache import File, obtain
from vaebench.errors import Unavailable, UserError
from vaebench.evaluation.conditions import evaluation_mode
from vaebench.evaluation.contract import IMAGES, check_model
from vaebench.evaluation.drawing.decoder import onnx_decoder
from vaebench.evaluation.drawing.explorer import explored, write_explorer
from vaebench.evaluation.subject import Subject
from vaebench.files import whole_folder
from vaebench.running.recording import account
from vaebench.training.models import data_module, load

RUNTIME = "onnxruntime-web"
PLACE = f"https://cdn.jsdelivr.net/npm/{RUNTIME}@1.30.0/dist"
FILES = (
    File("ort.wasm.bundle.min.mjs", f"{PLACE}/ort.wasm.bundle.min.mjs",
         "sha256:11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90"),
    File("ort-wasm-simd-threaded.wasm", f"{PLACE}/ort-wasm-simd-threaded.wasm",
         "sha256:3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"),
)  # fmt: skip


def explore(checkpoint: Path, out: Path) -> str | None:
    """Writes the page of a checkpoint's decoder, on the CPU; see `vaebench.evaluation.drawing.explorer`.

    Args:
        checkpoint: of a finished run.
        out: the page's folder; must not exist.

    Returns:
        Why the page shows frames that were decoded before instead of decoding itself; None where it decodes.

    Raises:
        UserError: the checkpoint lacks information about its run, its codes cannot be moved unit by unit, or the folder
            exists.
    """
    info = account(checkpoint)
    model, data = load(checkpoint), data_module(info["config"]["data"], checkpoint)
    own.require_sources(info["config"], checkpoint)
    title = f"{type(model).__name__}, seed {info['seed']}, on {data.name}"
    return _explore(Subject(model, data), title, f"'{checkpoint}'", out)


def explore_foreign(foreign: Foreign, data: ImageData, out: Path) -> str | None:
    """`explore` for a model from elsewhere and its images.

    Raises:
        UserError: the model violates `LatentModel`, its codes cannot be moved unit by unit, or the folder exists.
    """
    subject = Subject(foreign.model, data)
    with evaluation_mode(subject.model, subject.device):
        check_model(subject.model, subject.x[:IMAGES], subject.spec)
    return _explore(subject, f"{foreign.name}, on {data.name}", f"'{foreign.name}'", out)


def _explore(subject: Subject, title: str, what: str, out: Path) -> str | None:
    decoder = runtime = reason = None
    with whole_folder(out, "page") as folder:
        try:
            with evaluation_mode(subject.model, subject.device):
                found = explored(subject)
        except Unavailable as error:
            raise UserError(f"{what} cannot be explored: {error}; give another model") from None
        try:
            decoder = onnx_decoder(found.model, found.z)
            runtime = {file.name: obtain(RUNTIME, file, bytes) for file in FILES}
        except (Unavailable, UserError) as error:
            reason = str(error)
        write_explorer(folder, found, title, decoder, runtime)
    return reason
