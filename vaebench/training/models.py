"""Models from configurations: build a family for a data set, or load one from a checkpoint."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters_context

from vaebench.configuration.built import built
from vaebench.configuration.discovery import find_class
from vaebench.configuration.former import current_state
from vaebench.configuration.gate import vetted, vetted_run
from vaebench.configuration.parts import located
from vaebench.configuration.registered import remember
from vaebench.configuration.shipped import combination
from vaebench.configuration.source import Source
from vaebench.core import Family, fixed_noise
from vaebench.data.base import ImageData
from vaebench.errors import UNREADABLE, UserError, unknown
from vaebench.measures import DataSpec
from vaebench.records import fields

SPEC: fields.FieldKind = {
    "shape": [int],
    "measure?": str,
    "size?": (int, None),
}  # of `DataSpec`, as checkpoints hold it


def build(family: str, data: str | ImageData, **overrides: Any) -> Family:
    """A new model of a family for a data set, with the defaults of its class.

    Args:
        family: name of a family ('beta_vae') or of a combination ('vamp_vae'); `vaebench.families()` and `vaebench
            configs` list them.
        data: name of a data set ('digits') with its default settings, or a data module.
        overrides: arguments of the family's constructor; parts as in a configuration file,
            `prior="vamp"` or `prior={"class_path": "VampPrior", "init_args": {"components": 100}}`.

    Raises:
        UserError: no such family, data set or argument, or a value of the wrong type.
    """
    module = find_class("data set", data)() if isinstance(data, str) else data
    if (file := combination(family)) is not None:
        model = Source(file, "configuration file").content["model"]
        family, overrides = model["class_path"], {**model["init_args"], **overrides}
    cls = find_class("family", family)
    remember(overrides)  # the caller's own names
    return _construct(f"{cls.__module__}.{cls.__qualname__}", overrides, module.spec)


def _construct(path: str, arguments: dict[str, Any], spec: DataSpec) -> Family:
    """A family from plain arguments, as LightningCLI builds it, with these arguments as hyperparameters."""

    def construct(kind: type[Family], /, *args: Any, **kwargs: Any) -> Family:
        with _given_hyperparameters_context({"_class_path": path, **arguments}, "vaebench.training.models.load"):
            return kind(*args, **{**kwargs, "data": spec})  # this spec has the training mean

    path, arguments = str(located(path, "family")), located(arguments)
    config = {"class_path": path, "init_args": {**arguments, "data": spec.config}}
    model: Family = built(Family, "model", config, [(construct, Family, True)])
    return model


def load(checkpoint: str | Path) -> Family:
    """The model of a checkpoint, in evaluation mode on the CPU; needs neither its configuration nor its data.

    Leaves the caller's random state unchanged.

    Raises:
        UserError: there is no such file, it is not a checkpoint of a family, or it names a class that is neither the
            suite's nor registered (`vb.trust`).
    """
    content = read_checkpoint(checkpoint)
    arguments = dict(content["hyper_parameters"])
    path, spec = arguments.pop("_class_path"), arguments.pop("data")["init_args"]
    try:
        with fixed_noise(0):  # for initial weights, which are overwritten
            model = _construct(path, arguments, DataSpec(**spec))
        model.load_state_dict(current_state(content["former"], content["state_dict"], model.state_dict()))
    except (RuntimeError, TypeError, UserError) as error:
        reason = str(error).strip().splitlines()[-1].strip().rstrip(".")
        raise UserError(
            f"'{checkpoint}' does not fit the family it names ({reason}): expected weights of this version's "
            "architecture; load it with the version of vaebench that wrote it, or train it again"
        ) from error
    return model.eval()


def read_checkpoint(checkpoint: str | Path) -> dict[str, Any]:
    """A checkpoint as plain tensors and containers with vetted configurations; nothing in it is executed.

    Raises:
        UserError: there is no such file, it is not a checkpoint of a family, or its configuration is not admissible
            (`gate`).
    """
    path = Path(checkpoint)
    if not path.is_file():
        near = [str(p) for p in sorted(path.parent.glob("*.ckpt"))] if path.parent.is_dir() else []
        raise unknown("checkpoint", str(path), near, "" if near else "Train one with `vaebench fit`.")
    try:
        with zipfile.ZipFile(path) as members:
            if any(member.compress_type != zipfile.ZIP_STORED for member in members.infolist()):
                raise ValueError("torch packs nothing: what is packed may unpack to more than there is room for")
            if members.testzip() is not None:
                raise ValueError("torch reads damaged numbers without a word")
        content = torch.load(path, weights_only=True, map_location="cpu")
        arguments = {name: value for name, value in content["hyper_parameters"].items() if name[0] != "_"}
        model = {"class_path": content["hyper_parameters"]["_class_path"], "init_args": arguments}
        if wrong := fields.fault(model["init_args"]["data"]["init_args"], SPEC):
            raise TypeError(f"a data set that {wrong}")
        if not all(isinstance(value, torch.Tensor) for value in content["state_dict"].values()):
            raise TypeError("weights that are no tensors")
        if not isinstance(content.get("vaebench", {}), dict):
            raise TypeError("no account of the run")
    except (*UNREADABLE, zipfile.BadZipFile) as error:
        raise UserError(
            f"'{path}' is not a checkpoint that vaebench wrote (or it is damaged): expected a family's weights and "
            "settings; give the model.ckpt of a finished run"
        ) from error
    content["former"] = model["class_path"]
    model = vetted(model, path, "family")
    content["hyper_parameters"] = {"_class_path": model["class_path"], **model["init_args"]}
    if "config" in (info := content.get("vaebench") or {}):
        info["config"] = vetted_run(info["config"], path)
    return content


def data_module(config: Mapping[str, Any], source: object = "data") -> ImageData:
    """The data module of a plain {class_path, init_args}.

    Args:
        config: from a file.
        source: the file or record, for errors.

    Raises:
        UserError: it names a class that is neither the suite's nor registered, or it cannot be built.
    """
    module: ImageData = built(ImageData, "data", located(vetted(config, source, "data set"), "data set"))
    return module
