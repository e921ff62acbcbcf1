"""One pass over the reconstructions of all test images, a batch at a time, for all figures that look at them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vaebench.errors import Unavailable
from vaebench.evaluation.drawing.pictures import COLUMNS, PAIRS, reconstruction_grid
from vaebench.evaluation.estimators.lpips import lpips, read_lpips
from vaebench.evaluation.estimators.reconstruction import reconstructions
from vaebench.evaluation.metrics import FAILURES, Findings
from vaebench.evaluation.subject import Subject

Figure = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Judged:
    """Figures of all reconstructions; one that cannot be had does not stop the others.

    Attributes:
        code: of which latents the reconstructions are; see `Reconstruction`.
    """

    code: str = ""
    _values: dict[str, list[Tensor]] = field(default_factory=dict)
    _why: dict[str, Exception] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        """The values of all images, (n, …).

        Raises:
            Unavailable: there are none, or one of `FAILURES`, as the figure raised it.
        """
        if name in self._why:
            raise self._why[name]
        return torch.cat(self._values[name])

    def add(self, name: str, figure: Figure, x: Tensor, y: Tensor) -> None:
        """Takes a figure of a batch in."""
        if name in self._why:
            return
        try:
            self._values.setdefault(name, []).append(figure(x, y))
        except (Unavailable, *FAILURES) as error:
            self._why[name] = error


def judged(
    subject: Subject,
    findings: Findings,
    figures: Mapping[str, Figure],
    finish: Callable[[Tensor], Tensor] = lambda y: y,
) -> Judged:
    """Figures of all reconstructions, and the picture of some of them.

    Args:
        subject: the model and its images.
        findings: receives the picture.
        figures: by name, of images x and reconstructions y, (b, c, h, w): (b, …).
        finish: what becomes of reconstructions first.

    Raises:
        Unavailable: the likelihood has no mean in closed form.
    """
    found, shown, start = Judged(), subject.some(COLUMNS * PAIRS), 0
    pictures: list[tuple[Tensor, Tensor]] = []
    for x, made in reconstructions(subject.model, subject.x, subject.seed):
        found.code, y = made.code, finish(made.images)
        here = shown[(shown >= start) & (shown < start + len(x))] - start
        pictures.append((x[here], y[here]))
        for name, figure in figures.items():
            found.add(name, figure, x, y)
        start += len(x)
    findings.pictures["reconstructions"] = reconstruction_grid(*map(torch.cat, zip(*pictures, strict=True)))
    return found


def perceptual(subject: Subject) -> tuple[Figure, str]:
    """LPIPS, and the first 16 hex digits of the SHA-256 of its weights, '' where it cannot be had."""
    try:
        network, sha256 = read_lpips(subject.spec.shape, subject.device)
    except Unavailable as error:
        return _missing(error), ""
    return lambda x, y: lpips(network, x, y), sha256[:16]


def _missing(error: Unavailable) -> Figure:
    def figure(*_: Tensor) -> Tensor:
        raise error

    return figure
