"""The command line: thin. Each command imports what it needs when it runs, so that help answers at once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vaebench._version import __version__
from vaebench.errors import UserError, unknown

EXAMPLES = """\
examples:
  vaebench bench configs/benchmark/digits.yaml          three families, three seeds, a leaderboard
  vaebench fit --data digits --model beta_vae --model.beta 2 --trainer.max_epochs 50
  vaebench evaluate runs/digits-beta_vae-s0-1a2b3c4d/model.ckpt --protocol full
  vaebench sweep sweeps/beta.yaml                       search settings, on every device there is
  vaebench leaderboard results --html leaderboard.html
"""
FIT = """\
Trains one model: LightningCLI, so every setting of the family, the data and the trainer can be given, by files
(--config, several compose) and by --model.KEY, --data.KEY and --trainer.KEY. The best held-out bound is kept.

  vaebench fit --config configs/data/binarized_mnist.yaml --config configs/family/beta_vae.yaml \\
      --model.beta 4 --trainer.max_epochs 100

  --out FOLDER          where the run's own folder goes (default: runs); it holds model.ckpt and config.yaml
  --help-all            every setting, as LightningCLI lists them
"""


def main(argv: list[str] | None = None) -> int:
    """Runs one command. Returns the exit code: 0, 2 for a mistake of the user's, 130 when interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        return _dispatch(argv)
    except UserError as error:
        print(f"vaebench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vaebench: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def _dispatch(argv: list[str]) -> int:
    if argv[:1] == ["fit"]:
        return fit(argv[1:])
    arguments = _parser().parse_args(argv)
    return arguments.run(arguments)


class _Parser(argparse.ArgumentParser):
    """argparse that raises the user's mistakes instead of printing its usage."""

    def error(self, message: str) -> None:  # type: ignore[override]
        subs = {n: p for a in self._actions if isinstance(a.choices, dict) for n, p in a.choices.items()}
        if message.startswith("unrecognized arguments: "):
            actions = [action for parser in (self, *subs.values()) for action in parser._actions]
            flags = sorted({flag for action in actions for flag in action.option_strings if flag.startswith("--")})
            raise unknown("option", message.split()[2], flags, "`vaebench COMMAND --help` explains them.")
        if "invalid choice: " in message and subs:
            choices = list(subs)
            raise unknown("command", message.split("'")[1], choices, "`vaebench --help` explains them.")
        raise UserError(f"{message}; `{self.prog} --help` shows an example")


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser("vaebench", description="A referee for variational autoencoders.", epilog=EXAMPLES,
                     formatter_class=raw, allow_abbrev=False)  # fmt: skip
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands", parser_class=_Parser)

    def command(name: str, run: object, help: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help, epilog=f"example:\n  {example}",
                                  formatter_class=raw, allow_abbrev=False)  # fmt: skip
        sub.set_defaults(run=run)
        return sub

    commands.add_parser("fit", help="train one model (LightningCLI)", add_help=False)
    sub = command(
        "evaluate",
        evaluate,
        "evaluate a checkpoint on its test split and write a record",
        "vaebench evaluate runs/digits-vae-s0-1a2b3c4d/model.ckpt --protocol quick",
    )
    sub.add_argument("checkpoint", type=Path, help="the model.ckpt of a finished run")
    sub.add_argument("--protocol", default="likelihood",
                     help="what to measure: quick, likelihood, disentanglement, full, or a YAML file (default: "
                     "likelihood)")  # fmt: skip
    sub.add_argument("--k", type=int, help="importance samples an image (default: the protocol's)")
    sub.add_argument("--seed", type=int, help="of the evaluation's noise (default: the protocol's, 0)")
    sub.add_argument("--limit", type=int, help="only the first LIMIT test images")
    sub.add_argument("--precision", choices=["f32", "bf16"],
                     help="of the decoder; bf16 is faster and prints its error (default: the protocol's)")  # fmt: skip
    sub.add_argument("--compile", action=argparse.BooleanOptionalAction,
                     help="compile the decoder: faster from about a thousand images at K = 5,000")  # fmt: skip
    sub.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    sub.add_argument("--processes", type=int, default=1,
                     help="share the images among so many, one a GPU where there are GPUs (default: 1)")  # fmt: skip
    sub.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")
    sub = command("bench", bench, "train, evaluate and record families × seeds; goes on where it stopped",
                  "vaebench bench configs/benchmark/digits.yaml --results results")  # fmt: skip
    sub.add_argument("file", type=Path, help="the benchmark's YAML file")
    sub.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")
    sub.add_argument("--work", type=Path, default=Path("runs"), help="folder of unfinished runs (default: runs)")
    sub.add_argument("--engine", choices=["solo", "population"], default="solo",
                     help="one run after another, or all that can be trained as one model (default: solo)")  # fmt: skip
    sub = command("sweep", sweep, "search a space of settings with Optuna; survives kills, goes on with --resume",
                  "vaebench sweep sweeps/beta.yaml\n  vaebench sweep status sweeps/beta.yaml")  # fmt: skip
    sub.add_argument("file", nargs="+", metavar="[status|report] FILE", help="the sweep's YAML file")
    sub.add_argument("--storage", help="sqlite:///FILE or postgresql://USER@HOST/DATABASE (default: SQLite in results)")
    sub.add_argument("--workers", type=int, help="number of workers (default: one a GPU, else one a core)")
    sub.add_argument("--resume", action="store_true", help="go on with a sweep that was started")
    sub.add_argument("--engine", help="local, population, ray or slurm, in place of the file's")
    sub.add_argument("--dry-run", action="store_true", help="check the file and show what the engine would start")
    sub.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")
    sub.add_argument("--work", type=Path, default=Path("runs"), help="folder of unfinished runs (default: runs)")
    sub = command("leaderboard", leaderboard, "print the leaderboard of a folder of records, and draw its page",
                  "vaebench leaderboard results --html leaderboard.html")  # fmt: skip
    sub.add_argument("results", type=Path, nargs="?", default=Path("results"), help="folder of records")
    sub.add_argument("--html", type=Path, help="write the page to this file")
    sub.add_argument("--metric", default="log_likelihood", help="rank by this metric (default: log_likelihood)")
    command("families", families, "list the families", "vaebench families")
    command("datasets", datasets, "list the data sets", "vaebench datasets")
    return parser


def fit(argv: list[str]) -> int:
    """`vaebench fit`: trains one model and prints where its checkpoint is."""
    if not argv or argv in (["--help"], ["-h"]):
        print(f"usage: vaebench fit [--config FILE ...] [--out FOLDER] [--KEY VALUE ...]\n\n{FIT}")
        return 0
    from vaebench.explain import experiment, explained
    from vaebench.progress import training_bar

    out, argv = _out(["--help" if a == "--help-all" else a for a in argv])
    job = experiment(argv)
    with explained():
        model, data = job.build()
    name = f"{data.name}-{type(model).__module__.rpartition('.')[2]}-s{job.seed}-{job.identity(data)[:8]}"
    checkpoint = out / name / "model.ckpt"
    if checkpoint.is_file():
        print(f"{checkpoint} holds this very run already; delete its folder to train it again.")
        return 0
    with training_bar(name) as bar:
        job.run(checkpoint.parent, bar)
    print(f"{checkpoint}\nevaluate it:  vaebench evaluate {checkpoint}")
    return 0


def _out(argv: list[str]) -> tuple[Path, list[str]]:
    """Takes `--out FOLDER` from LightningCLI's arguments."""
    parser = _Parser("vaebench fit", add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    known, rest = parser.parse_known_args(argv)
    return known.out, rest


def evaluate(arguments: argparse.Namespace) -> int:
    """`vaebench evaluate`: writes a record and prints its metrics."""
    from vaebench.runs import record_checkpoint
    from vaebench.tables import metrics_table

    request = {key: getattr(arguments, key) for key in ("k", "seed", "limit", "precision", "compile")}
    request["name"] = arguments.protocol
    where = {"device": arguments.device, "processes": arguments.processes}
    record, directory = record_checkpoint(arguments.checkpoint, arguments.results, request, **where)
    metrics_table(record)
    print(directory / "record.json")
    return 0


def bench(arguments: argparse.Namespace) -> int:
    """`vaebench bench`: runs what is missing and prints the leaderboard of the folder."""
    from vaebench.bench import bench as run_all

    for run, directory, finished in run_all(arguments.file, arguments.results, arguments.work, engine=arguments.engine):
        print(f"{run.variant} seed {run.seed}: {directory}{' (finished before)' if finished else ''}", flush=True)
    from vaebench.leaderboard import leaderboard as board

    print(f"\n{board(arguments.results)}")
    return 0


def sweep(arguments: argparse.Namespace) -> int:
    """`vaebench sweep`: runs a sweep, or prints (`status`) or draws (`report`) where it stands."""
    *action, file = arguments.file
    if action not in ([], ["status"], ["report"]):
        raise unknown("action", " ".join(action), ["status", "report"], "`vaebench sweep --help` shows an example.")
    if arguments.workers is not None and arguments.workers < 1:
        raise UserError(f"--workers is {arguments.workers}: expected at least 1; leave it out for one a device")
    from vaebench.sweep import driver

    place = (Path(file), arguments.results)
    if action == ["status"]:
        driver.status(*place, arguments.storage)
    elif action == ["report"]:
        print(driver.report(*place, arguments.storage))
    else:
        where = (arguments.work, arguments.storage, arguments.workers)
        if arguments.dry_run:
            print(driver.dry_run(*place, *where, arguments.engine))
        else:
            print(driver.sweep(*place, *where, arguments.resume, arguments.engine))
    return 0


def leaderboard(arguments: argparse.Namespace) -> int:
    """`vaebench leaderboard`: prints the tables as Markdown and names the page."""
    from vaebench.leaderboard import leaderboard as board

    print(board(arguments.results, arguments.html, arguments.metric))
    if arguments.html:
        print(f"\nPage: {arguments.html.resolve()}")
    return 0


def families(_: argparse.Namespace) -> int:
    """`vaebench families`: name, class, what it maximises and where it comes from."""
    from vaebench.discovery import families as found
    from vaebench.tables import classes_table

    classes_table(found())
    return 0


def datasets(_: argparse.Namespace) -> int:
    """`vaebench datasets`: name, class and what it is."""
    from vaebench.discovery import datasets as found
    from vaebench.tables import classes_table

    classes_table(found())
    return 0
