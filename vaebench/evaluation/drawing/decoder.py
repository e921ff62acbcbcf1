"""The decoder of a model as an ONNX model, which runs without torch."""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import redirect_stdout
from typing import cast

import torch
from torch import Tensor, nn

from vaebench.core import Family, LatentModel
from vaebench.errors import Unavailable, extra
from vaebench.evaluation.conditions import Conditioned, declared
from vaebench.evaluation.estimators.reconstruction import mean_image

OPSET = 18  # the newest that torch writes by itself, which onnxruntime-web has had since its version 1.15


class Decoder(nn.Module):
    """z (n, *latent) -> E[x|z] (n, *data); a conditional model's takes labels (n,) int64 beside z."""

    def __init__(self, model: LatentModel) -> None:
        super().__init__()
        self.model = declared(model)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        model = self.model if y is None else Conditioned(cast(Family, self.model), y)
        return mean_image(model, z[None])[0]


def onnx_decoder(model: LatentModel, z: Tensor) -> bytes:
    """A decoder in ONNX's format: inputs `z` (n, *latent) and, of a conditional model, `y` (n,); output `x` (n, *data).

    Args:
        model: the model in evaluation mode; not inside `evaluation_mode`, whose flags torch.export refuses.
        z: codes for the shapes and the precision, (n, *latent), n ≥ 2.

    Raises:
        Unavailable: the likelihood has no mean in closed form, or ONNX cannot express the decoder.
        UserError: the packages that write ONNX are missing.
    """
    with extra("explore", "a decoder in ONNX's format"):
        import onnxscript  # noqa: F401 torch's exporter asks for it later, and says less
    with torch.no_grad():
        mean_image(model, z.clone()[None])  # says by itself that there is none
    decoder = Decoder(model)
    inputs = {"z": z.clone()} | ({"y": model.y[: len(z)].clone()} if isinstance(model, Conditioned) else {})
    free = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
    chatter = logging.getLogger("torch.onnx")
    level = chatter.level
    chatter.setLevel(logging.ERROR)  # that torchvision is not installed
    try:
        with torch.no_grad(), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            made = torch.onnx.export(decoder, tuple(inputs.values()), dynamo=True, verbose=False, opset_version=OPSET,
                                     input_names=list(inputs), output_names=["x"], dynamic_shapes=free)  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        raise Unavailable(f"torch cannot write this decoder in ONNX's format ({_cause(error)})") from error
    finally:
        chatter.setLevel(level)
    assert made is not None  # no file was named
    return made.model_proto.SerializeToString()


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}".rstrip(": .")
