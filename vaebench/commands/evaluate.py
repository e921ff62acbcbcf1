"""`vaebench evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vaebench.commands._parser import root_option, trust_option
from vaebench.configuration.discovery import protocols

HELP = "evaluate a checkpoint on its test split and write a record"
EXAMPLE = "vaebench evaluate runs/digits-beta_vae-s0-180ab1ac/model.ckpt --protocol quick"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="the model.ckpt of a finished run")
    parser.add_argument("--protocol", default="likelihood",
                     help=f"what to measure: {', '.join(protocols())}, or a YAML file (default: "
                     "likelihood)")  # fmt: skip
    parser.add_argument("--k", type=int, help="importance samples an image (default: the protocol's)")
    parser.add_argument("--seed", type=int, help="of the evaluation's noise (default: the protocol's, 0)")
    parser.add_argument("--limit", type=int, help="only the first LIMIT test images")
    parser.add_argument("--precision", choices=["f32", "bf16"],
                     help="of the decoder; bf16 is faster and prints its error (default: the protocol's)")  # fmt: skip
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction,
                     help="compile the decoder: faster from about a thousand images at K = 5,000")  # fmt: skip
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
    from vaebench.running.evaluate import record_checkpoint

    request = {key: vars(arguments)[key] for key in ("k", "seed", "limit", "precision", "compile")}
    request["name"] = arguments.protocol
    where = {"device": arguments.device, "processes": arguments.processes}
    record = record_checkpoint(arguments.checkpoint, arguments.results, request, **where)
    metrics_table(record)
    print(record.path / RECORD if record.path else "")
    return 0
