"""Runs of Weights & Biases: online with a key, otherwise in files for `wandb sync`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebench.curves import BOUND, LOG_X, OBJECTIVE
from vaebench.loggers.about import RunDescription
from vaebench.loggers.figures import finite, logged_figures
from vaebench.loggers.server import project_of, require_wandb, unreachable
from vaebench.records import CHECKPOINT, PER_IMAGE, RECORD, RunRecord

if TYPE_CHECKING:
    import numpy as np
    import wandb
    from numpy.typing import NDArray

PATIENCE = 120.0  # seconds to wait for the server at the end of a run; `wandb sync` sends the rest


def opener(choice: str, folder: Path) -> Callable[[RunDescription], WandbRun]:
    """Opens runs in the project of 'wandb:ENTITY/PROJECT', or that of WANDB_ENTITY and WANDB_PROJECT for 'wandb'.

    Without a key or a server, runs are stored as files in `folder/wandb`, with a note on the terminal.

    Raises:
        UserError: wandb is not installed, or the text names no project.
    """
    require_wandb()
    entity, project = project_of(choice.partition(":")[2])
    mode = os.environ.get("WANDB_MODE", "online")
    if mode == "online" and _must_wait(folder):
        mode = "offline"
    return partial(WandbRun, folder, entity, project, mode)


def _must_wait(folder: Path) -> bool:
    why = unreachable()
    if why:
        later = f"`wandb sync {folder}/wandb/offline-run-*` sends them later"
        print(f"vaebench: runs are not sent to Weights & Biases but kept ({why}); {later}", file=sys.stderr, flush=True)
    return bool(why)


class WandbRun:
    """One run; several may be open at once.

    Logging an id again replaces the run, so that a resumed or repeated run is only once in a project.

    Args:
        folder: `folder/wandb` holds its files.
        entity, project: of the run.
        mode: 'online', 'offline' or 'disabled'.
        about: the run.
    """

    def __init__(self, folder: Path, entity: str | None, project: str, mode: Any, about: RunDescription) -> None:
        import wandb

        recorded = about.job == "record"  # elsewhere or earlier, so that this machine is irrelevant
        settings = wandb.Settings(
            silent=True, console="off", save_code=False, program="vaebench", finish_timeout=PATIENCE,
            finish_timeout_raises=True, x_disable_stats=recorded, x_disable_meta=recorded,
            x_disable_machine_info=recorded,
        )  # fmt: skip
        self.run = wandb.init(
            entity=entity, project=project, dir=folder, id=about.id, name=about.name, group=about.group,
            job_type=about.job, tags=about.tags, config=about.config, mode=mode, settings=settings,
            reinit="create_new",
        )  # fmt: skip
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")
        for curve in (BOUND, LOG_X, OBJECTIVE):  # the higher the better: the summary keeps the best beside the last
            self.run.define_metric(curve, step_metric="step", summary="max,last")

    def point(self, step: int, values: Mapping[str, float]) -> None:
        """One row of the history."""
        self.run.log({"step": step, **finite(values)})

    def pictures(self, step: int, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        """Media in the row of a step."""
        import wandb

        media = {f"training/{name}": wandb.Image(pixels) for name, pixels in pictures.items()}
        self.run.log({"step": step, **media})

    def checkpoint(self, path: Path) -> None:
        """`model.ckpt` as an artifact of type 'model'."""
        import wandb

        artifact = wandb.Artifact(f"model-{self.run.id}", "model")
        artifact.add_file(str(path), name=path.name)
        self.run.log_artifact(artifact)

    def record(self, record: RunRecord) -> None:
        """Scalars as the summary, pictures and units as media, and every file of the record as an artifact."""
        import wandb

        assert record.path is not None
        self.run.summary.update(logged_figures(record))
        media: dict[str, Any] = {
            f"pictures/{name}": wandb.Image(str(path), caption=f"{record.variant}, seed {record.seed}")
            for name, path in record.pictures().items()
        }
        if kl := record.units.get("kl"):
            units = wandb.Table(columns=["unit", "kl"], data=[[unit, value] for unit, value in enumerate(kl)])
            media["units/kl"] = wandb.plot.bar(units, "unit", "kl", title="KL of each unit, nats")
        self.run.log(media)
        artifact = wandb.Artifact(
            f"record-{self.run.id}", "record", metadata={"record": record.id, "digest": record.digest}
        )
        for name in (RECORD, *record.files):
            artifact.add_file(str(record.path / name), name=name)
        artifact.add(_table(record), PER_IMAGE.removesuffix(".npz"))
        self.run.log_artifact(artifact)
        if record.checkpoint and (path := record.path / CHECKPOINT).is_file() and not path.is_symlink():
            self.checkpoint(path)

    def close(self, outcome: str) -> None:
        """Waits until everything is written, and sent if there is a server.

        Raises:
            TimeoutError: the server was too slow; the rest is in files.
        """
        self.run.summary["outcome"] = outcome
        try:
            self.run.finish(exit_code=0 if outcome in ("finished", "pruned") else 1)
        except TimeoutError:
            rest = f"`wandb sync {self.run.settings.sync_dir}` sends the rest"
            raise TimeoutError(f"Weights & Biases did not take all of a run within {PATIENCE:.0f} s; {rest}") from None


def _table(record: RunRecord) -> wandb.Table:
    """One row for every test image."""
    import wandb

    arrays = record.per_image()
    rows = zip(*(array.tolist() for array in arrays.values()), strict=True)
    return wandb.Table(columns=["image", *arrays], data=[[index, *row] for index, row in enumerate(rows)])
