"""Steps that cannot be captured as CUDA graphs run without, and say why; the laws on devices have the graphs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import bits, small
from populations import args

from vaebench.core.captured import CAPTURE, Captured
from vaebench.core.rules import Recipe
from vaebench.errors import UserError
from vaebench.training.experiment import experiment
from vaebench.training.population import Population
from vaebench.training.solo import train

NO_GPU = f"{CAPTURE} is 1, but steps on a CPU cannot be captured as CUDA graphs"


@pytest.mark.parametrize(
    ("optimizer", "accumulate", "why"),
    [
        (torch.optim.NAdam, 1, "NAdam counts its steps on the host"),
        (partial(torch.optim.Adam, foreach=True), 1, "Adam counts its steps on the host"),
        (partial(torch.optim.Adam, fused=True), 2, "the gradients of several batches make one step"),
    ],
)
def test_a_step_that_a_graph_would_get_wrong_is_not_captured(optimizer: type, accumulate: int, why: str) -> None:
    """NAdam computes its momentum from a count that a graph would hold for ever."""
    model = small("vae")
    model.recipe, model.accumulate = Recipe({"": optimizer}), accumulate
    model.captured = Captured("the step of VAE", torch.device("cuda"))
    with pytest.warns(UserWarning, match=f"the step of VAE is not captured as a CUDA graph, and runs without: {why}"):
        model.configure_optimizers()
    model.learn(bits(4), None)
    assert model.captured.replays == 0


def test_without_a_gpu_training_says_so_and_is_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = torch.load(train(experiment(args("vae", epochs=1)), tmp_path / "before"), weights_only=True)
    monkeypatch.setenv(CAPTURE, "1")
    with pytest.warns(UserWarning, match=NO_GPU):
        after = torch.load(train(experiment(args("vae", epochs=1)), tmp_path / "after"), weights_only=True)
    assert all(torch.equal(value, after["state_dict"][name]) for name, value in before["state_dict"].items())
    with pytest.warns(UserWarning, match=NO_GPU):
        assert not Population().capture


def test_a_value_that_is_no_choice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CAPTURE, "yes")
    with pytest.raises(UserError, match=r"VAEBENCH_CAPTURE is 'yes': expected 1, for captured training steps, or 0"):
        Population()
