"""`vaebench fit`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from vaebench.commands._parser import Parser
from vaebench.configuration.early import require_known
from vaebench.errors import UserError

HELP = "train one model (LightningCLI)"
EXAMPLE = "vaebench fit --data digits --model beta_vae --model.beta 2"
USAGE = """\
Trains one model: LightningCLI, so every setting of the family, the data and the trainer can be given, by files
(--config, several compose) and by --model.KEY, --data.KEY and --trainer.KEY. The last weights are kept, or
the best by the held-out objective (--model.keep best).

  vaebench fit --config data/binarized_mnist --config family/beta_vae --model.beta 4 --trainer.max_epochs 100
  vaebench fit --data digits --model vamp_vae

--config takes a file by its path, or one of those that `vaebench configs` lists by its name; so does --model where a
combination of parts has a name, but no family.

  --out FOLDER          where the run's own folder goes (default: runs); it holds model.ckpt and config.yaml
  --logger LOGGER       wandb, wandb:PROJECT, wandb:ENTITY/PROJECT, tensorboard or csv: where the run is logged
  --pictures EPOCHS     log reconstructions and samples every so many epochs; tensorboard and wandb show them
  --optimizer NAME      in place of Adam, as in --optimizer AdamW --optimizer.weight_decay 0.01; --optimizer_GROUP for
                        one parameter group; the learning rate is --model.lr
  --lr_scheduler NAME   as in --lr_scheduler CosineAnnealingLR --lr_scheduler.T_max 100 (epochs)
  --help-all            every setting of the trainer, and what else LightningCLI takes
  --model.help NAME     every setting of a family, as in: vaebench fit --model.help beta_vae
  --data.help NAME      every setting of a data set

`vaebench parts` lists what --model.posterior, --model.prior, --model.likelihood, their .net, --model.schedule,
--optimizer and --lr_scheduler take.
"""


def raw(argv: list[str]) -> int:
    """`vaebench fit`: trains one model and prints where its checkpoint is."""
    if not argv or argv in (["--help"], ["-h"]):
        options = "[--config FILE ...] [--out FOLDER] [--logger LOGGER] [--pictures EPOCHS] [--KEY VALUE ...]"
        print(f"usage: vaebench fit {options}\n\n{USAGE}")
        return 0
    own, argv = _own(["--help" if a == "--help-all" else a for a in argv])
    if own.pictures is not None and (own.pictures < 1 or own.logger is None):
        raise UserError(
            f"--pictures {own.pictures} has nowhere to go: expected a number of epochs from 1 and --logger wandb or "
            "tensorboard; give both"
        )
    require_known(argv)  # torch takes seconds
    from vaebench.running.fit import fit, summary

    fitted = fit(argv, own.out, own.logger, own.pictures)
    if fitted.before:
        print(f"{fitted.checkpoint} holds this very run already; delete its folder to train it again.")
        return 0
    names = "".join(f" --trust {shlex.quote(name)}" for name in fitted.foreign)
    print(f"{fitted.checkpoint}\n{summary(fitted.checkpoint)}")
    print(f"evaluate it:  vaebench evaluate {fitted.checkpoint}{names}")
    return 0


def _own(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Takes `--out FOLDER`, `--logger LOGGER` and `--pictures EPOCHS` from LightningCLI's arguments."""
    parser = Parser("vaebench fit", add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--logger")
    parser.add_argument("--pictures", type=int)
    return parser.parse_known_args(argv)
