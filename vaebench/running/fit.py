"""One training with its log, as `vaebench fit` and `vb.fit` run it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from glob import escape
from pathlib import Path
from typing import NamedTuple

from lightning import Callback

from vaebench.configuration.explain import explained
from vaebench.configuration.parts import name_of
from vaebench.configuration.registered import foreign
from vaebench.curves import BOUND, LOG_X, OBJECTIVE
from vaebench.data.base import ImageData
from vaebench.files import alone_in
from vaebench.loggers import Log, Logbook, of_training
from vaebench.records.selection import parsed
from vaebench.running.pictures import PicturesCallback
from vaebench.running.run import trained_checkpoint
from vaebench.training.checkpoint import config_text
from vaebench.training.experiment import Experiment, experiment
from vaebench.training.models import read_checkpoint
from vaebench.training.parser import with_folder
from vaebench.training.progress import training_bar
from vaebench.training.saves import Saves
from vaebench.training.solo import train

WORDS = {BOUND: "held-out bound", LOG_X: "held-out log p(x|z)", OBJECTIVE: "held-out objective"}


class Fitted(NamedTuple):
    """A finished training.

    Attributes:
        checkpoint: its model.ckpt.
        before: whether it was finished by an earlier call.
        foreign: names in its configuration that are the user's own, for `--trust`.
    """

    checkpoint: Path
    before: bool
    foreign: list[str]


def fit(
    args: Sequence[str], out: Path, logger: str | None = None, pictures: int | None = None, progress: bool = True
) -> Fitted:
    """Trains one run in its own folder below `out`; one that was interrupted goes on, and one that ended is kept.

    Args:
        args: as typed after `vaebench fit`.
        out: where the run's folder goes.
        logger: where it is logged; see `vaebench.loggers.Logbook`.
        pictures: epochs after which pictures are logged; None: never.
        progress: show how far it is.

    Raises:
        UserError: the arguments are not valid, or the run cannot be trained.
    """
    logbook = Logbook(logger, out)
    job = experiment(with_folder(list(args), str(out)))
    with explained():
        model, data = job.build()
    name = f"{data.name}-{name_of(type(model))}-s{job.seed}-{job.identity(data)[:8]}"
    folder, names = out / name, foreign(job.plain)
    with alone_in(folder):
        if (checkpoint := trained_checkpoint(folder, job.identity(data))) is not None:
            Saves(folder, "").remove()  # of a run that was killed at its very end
            return Fitted(checkpoint, True, names)
        if (twin := _twin(job, folder)) is not None:
            code = f"other code of yours ({', '.join(job.sources)}), or " if job.sources else ""
            print(f"vaebench: {twin} has the same settings with {code}other images: this is a run of its own, which "
                  "begins anew", file=sys.stderr)  # fmt: skip
        with logbook.open(of_training(job, data, "fit")) as log:
            with training_bar(name, progress) as bar:
                checkpoint = train(job, folder, bar, [*log.callbacks, *_drawing(log, data, pictures)])
            log.checkpoint(checkpoint)
    return Fitted(checkpoint, False, names)


def _twin(job: Experiment, folder: Path) -> Path | None:
    """The folder of a run with the same settings and another identity, where this run has not begun yet."""
    if (folder / "config.yaml").exists():
        return None
    start = folder.name.rpartition("-")[0]
    others = sorted(folder.parent.glob(f"{escape(start)}-*/config.yaml"))
    text = config_text(job).encode() if others else b""
    return next((file.parent for file in others if file.read_bytes() == text), None)


def summary(checkpoint: Path) -> str:
    """What a finished training reached, in a line: the last held-out figure, of which weights, and how long it took."""
    info = read_checkpoint(checkpoint)["vaebench"]
    chosen, seconds = (
        parsed(info["selection"]),
        f"{info['train_seconds']:.0f} s, {info['images_per_second']:,.0f} images/s",
    )
    for curve, words in WORDS.items():
        points = info["curves"].get(curve, {"step": [], "value": []})
        at = dict(zip(points["step"], points["value"], strict=True))
        if chosen is not None and chosen.step in at:
            return f"{words} {at[chosen.step]:.2f} nats, {info['selection']}; {seconds}"
    return f"{info['selection']}; {seconds}"


def _drawing(log: Log, data: ImageData, every: int | None) -> list[Callback]:
    """What draws pictures for a log that is open, every so many epochs; None: never."""
    return [PicturesCallback(log, data, every)] if every is not None and log.open else []
