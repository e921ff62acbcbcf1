"""`vaebench evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebench.commands._adapter import SETTINGS as SETTINGS
from vaebench.commands._adapter import foreign_model, model_options, require_checkpoint
from vaebench.commands._parser import root_option, trust_option
from vaebench.configuration.discovery import protocols
from vaebench.errors import UserError

if TYPE_CHECKING:
    from vaebench.records import RunRecord

HELP = "evaluate a checkpoint, or a model from elsewhere, on its test split and write a record"
EXAMPLE = "vaebench evaluate runs/digits-beta_vae-s0-180ab1ac/model.ckpt --protocol quick"


def arguments(parser: argparse.ArgumentParser) -> None:
    model_options(parser)
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

    require_checkpoint(arguments, "name", "trained_seed")
    where = {"device": arguments.device, "processes": arguments.processes}
    return record_checkpoint(arguments.checkpoint, arguments.results, request, **where)


def _of_adapter(arguments: argparse.Namespace, request: dict[str, Any]) -> RunRecord:
    from vaebench.running.foreign import record_foreign

    model, data = foreign_model(arguments)
    if arguments.processes != 1:
        raise UserError("--processes is for checkpoints: expected 1 process beside --adapter; leave it out")
    return record_foreign(model, data, arguments.results, request, arguments.name, arguments.trained_seed,
                          device=arguments.device)  # fmt: skip
