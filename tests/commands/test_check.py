"""`vaebench check` says which laws a family of the user's own breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaebench.cli import main

TEXT = """
import torch
from vaebench.core import DataSpec, Family, Step


class Own(Family):
    def __init__(self, data: DataSpec, weight: float = 1.0, **parts):
        super().__init__(data, **parts)
        self.hyper(weight=weight)
        self.register_buffer("seen", torch.zeros(()))

    def step(self, x, y, t):
        terms = self.terms(x, y, 1)
        LINE
        return Step({"model": loss}, terms.logs)
"""
LINES = {
    "loss = (terms.distortion + self.weight * terms.rate).mean()": "",
    "loss = terms.rate.mean()": "the loss 'model' does not depend on likelihood.",
    "self.seen.add_(1); loss = -terms.elbo.mean()": "it changes seen",
    "loss = -terms.elbo": "the loss 'model' has the shape (16,)",
    "loss = -terms.elbo.mean() * 0 / 0": "is not finite",
    "loss = -terms.elbo.mean() * (1 + float(terms.rate.mean() > 1e9))": "decide nothing by a tensor's value",
    "loss = (terms.distortion + terms.rate.detach() * terms.rate).mean()": "and its gradient says",
}


@pytest.mark.parametrize("line", LINES)
def test_each_law_that_is_broken_is_named(newcomer: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    (newcomer / "own.py").write_text(TEXT.replace("LINE", line))
    assert main(["check", "own.Own"]) == (1 if LINES[line] else 0)
    said = capsys.readouterr().out
    assert LINES[line] in said
    assert ("fails" in said) == bool(LINES[line])
    if not LINES[line]:
        assert said.count("holds") == 10
