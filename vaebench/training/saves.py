"""Saves of an unfinished run, the latest and its predecessor; training resumes from the newest sound one."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaebench.errors import UNREADABLE
from vaebench.files import remove_partial, write_atomically

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class Saves:
    """A run's saves in its folder.

    Args:
        folder: the run's.
        run: its identity; saves of another run are ignored.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.path, self.previous, self.run = folder / LAST, folder / PREVIOUS, run
        self._sound = False  # whether `path` is worth keeping as the predecessor

    def save(self, state: Mapping[str, Any]) -> None:
        """Saves a state of training; a failure, such as a full disk, only raises a warning."""
        try:
            write_tensors(self.path, {**state, "run": self.run}, self.previous if self._sound else None)
        except OSError as error:
            warnings.warn(
                f"'{error.filename}' could not be saved ({error.strerror}); training goes on, but would lose what "
                "came after the save before if it were interrupted: make room there",
                stacklevel=2,
            )
        else:
            self._sound = True

    def newest(self, require: Callable[[dict[str, Any]], object]) -> Path | None:
        """The newest save from which the run can resume, or None; warns of damaged ones.

        Args:
            require: raises for a save that does not fit this run, without restoring anything.
        """
        faults: list[str] = []
        for path in (self.path, self.previous):
            if path.is_file():
                if (fault := self._fault(path, require)) is None:
                    self._sound = path == self.path
                    _warn(faults, f"the run goes on from the save before, '{path}'")
                    return path
                faults.append(f"'{path}' {fault}")
        _warn(faults, "the run begins again")
        return None

    def _fault(self, path: Path, require: Callable[[dict[str, Any]], object]) -> str | None:
        """Why a save cannot be resumed; None where it can."""
        try:
            with zipfile.ZipFile(path) as parts:
                if parts.testzip() is not None:  # torch reads damaged numbers silently
                    return "is damaged"
            state = torch.load(path, weights_only=True, map_location="cpu")
            if state.get("run") != self.run:
                return "is of a run with other settings or by another version"
            require(state)
        except (*UNREADABLE, AttributeError, IndexError, zipfile.BadZipFile, pickle.PickleError):
            return "is damaged"
        return None

    def remove(self) -> None:
        """Removes all saves: the run is finished."""
        for path in (self.path, self.previous):
            path.unlink(missing_ok=True)
            remove_partial(path)


def require_alike(saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Checks that saved tensors have the names and shapes of a run's own.

    Raises:
        ValueError: they do not.
    """
    if {name: tensor.shape for name, tensor in saved.items()} != {name: tensor.shape for name, tensor in own.items()}:
        raise ValueError("other tensors")


def _warn(faults: list[str], consequence: str) -> None:
    if faults:
        warnings.warn(f"{' and '.join(faults)}: {consequence}", stacklevel=3)


def write_tensors(path: Path, state: Mapping[str, Any], before: Path | None = None) -> None:
    """An atomic `torch.save`; torch's own gives errors without a reason, and may leave half a file."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(path, buffer.getbuffer(), before)
