"""`vaebench evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebench.commands._parser import root_option, trust_option
from vaebench.configuration.discovery import protocols
from vaebench.errors import UserError

if TYPE_CHECKING:
    from vaebench.records import RunRecord

HELP = "evaluate a checkpoint, or a model from elsewhere, on its test split and write a record"
EXAMPLE = "vaebench evaluate runs/digits-beta_vae-s0-180ab1ac/model.ckpt --protocol quick"
SETTINGS = "--data."  # of options besides those below


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", nargs="?", type=Path, help="the model.ckpt of a finished run")
    parser.add_argument("--adapter", metavar="MODEL",
                     help="in its place a model that was trained elsewhere: pythae:FOLDER, multivae:FOLDER[:MODALITY], "
                     "diffusers:FOLDER_OR_ID or FILE.py:FUNCTION, which is run (docs/your-model.md)")  # fmt: skip
    parser.add_argument("--data", metavar="NAME",
                     help="its images, with settings as --data.KEY VALUE: those of `vaebench fit`")  # fmt: skip
    parser.add_argument("--name", help="its name in records and on boards (default: that of its class)")
    parser.add_argument("--trained-seed", type=int, metavar="SEED",
                     help="the seed that it was trained with: models of one name and kind are one row")  # fmt: skip
    parser.add_argument("--protocol", default="likelihood",
                     help=f"what to measure: {', '.join(protocols())}, or a YAML file (default: "
                     "likelihood)")  # fmt: skip
    parser.add_argument("--k", type=int, help="importance samples an image (default: the protocol's)")
    parser.add_argument("--seed", type=int, help="of the evaluation's noise (default: the protocol's, 0)")
    parser.add_argument("--limit", type=int, help="only the first LIMIT test images")
    parser.add_argument("--precision", choices=["f32", "bf16", "auto"],
                     help="of the decoder; bf16 errs, and prints by how much; auto measures for a second whether it is "
                     "faster here (default: the protocol's)")  # fmt: skip
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction,
                     help="compile the decoder: faster from about a thousand images at K = 5,000")  # fmt: skip
    parser.add_argument("--chunk", type=int,
                     help="most samples of an image scored at once, where a GPU's memory is short (default: chosen, "
                     "and halved where they do not fit)")  # fmt: skip
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    parser.add_argument("--processes", type=int, default=1,
                     help="share the images among so many, one a GPU where there are GPUs (default: 1)")  # fmt: skip
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")
    root_option(parser)
    trust_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """`vaebench evaluate`: writes a record and prints its metrics."""
    from vaebench.commands._tables import metrics_table
    from vaebench.records import RECORD

    request = {key: vars(arguments)[key] for key in ("k", "seed", "limit", "precision", "compile", "chunk")}
    request["name"] = arguments.protocol
    record = (_of_checkpoint if arguments.adapter is None else _of_adapter)(arguments, request)
    metrics_table(record)
    print(record.path / RECORD if record.path else "")
    return 0


def _of_checkpoint(arguments: argparse.Namespace, request: dict[str, Any]) -> RunRecord:
    from vaebench.running.evaluate import record_checkpoint

    for name in ("data", "name", "trained_seed", "settings"):
        if vars(arguments)[name]:
            option = arguments.settings[0] if name == "settings" else f"--{name.replace('_', '-')}"
            raise UserError(
                f"{option} is for a model from elsewhere: expected --adapter beside it; name the model there"
            )
    if arguments.checkpoint is None:
        raise UserError("there is no model to evaluate: expected a model.ckpt, or --adapter; give one of them")
    where = {"device": arguments.device, "processes": arguments.processes}
    return record_checkpoint(arguments.checkpoint, arguments.results, request, **where)


def _of_adapter(arguments: argparse.Namespace, request: dict[str, Any]) -> RunRecord:
    from vaebench.adapters import open_adapter
    from vaebench.configuration.registered import moved
    from vaebench.running.foreign import chosen_data, record_foreign

    if arguments.checkpoint is not None:
        raise UserError(
            f"there are two models, '{arguments.checkpoint}' and --adapter {arguments.adapter}: expected one; leave "
            "out the other"
        )
    if arguments.data is None:
        raise UserError("--adapter has no images to judge the model on: expected --data; name a data set")
    if arguments.processes != 1:
        raise UserError("--processes is for checkpoints: expected 1 process beside --adapter; leave it out")
    place = [] if moved() is None else [f"--data.root={moved()}"]
    data = chosen_data([f"--data={arguments.data}", *place, *arguments.settings])
    model = open_adapter(arguments.adapter, data.spec)
    return record_foreign(model, data, arguments.results, request, arguments.name, arguments.trained_seed,
                          device=arguments.device)  # fmt: skip
