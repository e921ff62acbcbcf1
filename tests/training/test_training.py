"""Training: resumed runs equal whole ones, seeds decide everything, checkpoints need nothing else."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import FORKED, train_at, wait

import vaebench as vb
from vaebench.core import Family
from vaebench.data.base import ImageData
from vaebench.data.digits import Digits
from vaebench.errors import UserError
from vaebench.running.recording import weights_hash
from vaebench.training.experiment import experiment
from vaebench.training.solo import train

SMALL = ["--data", "digits", "--model", "beta_vae", "--model.latent", "4", "--model.schedule", "Linear",
         "--model.schedule.length", "30", "--trainer.accelerator", "cpu"]  # fmt: skip


def _fit(work: Path, *args: str) -> Family:
    return vb.load(train(experiment([*SMALL, *args]), work))


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(tmp_path: Path) -> None:
    first, second, third = (
        weights_hash(_fit(tmp_path / str(i), "--trainer.max_epochs=2", f"--seed_everything={seed}"))
        for i, seed in enumerate((1, 1, 2))
    )
    assert first == second
    assert first != third


def test_a_run_that_is_built_twice_reads_and_hashes_its_data_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`fit` builds for the run's identity, and again to train: static MNIST was parsed, compared and hashed twice."""
    read: list[int] = []
    raw = Digits.raw
    monkeypatch.setattr(Digits, "raw", lambda self: read.append(1) or raw(self))
    job = experiment(SMALL)
    (_, first), (_, second) = job.build(), job.build()
    assert second is not first
    assert second.hashes is first.hashes
    assert len(read) == 1
    _, other = experiment([*SMALL, "--data.batch_size=7"]).build()
    assert other.hashes == first.hashes
    assert len(read) == 2, "another run reads for itself"


def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    """SIGKILL between epochs; the resumed run ends with the very weights of the uninterrupted one."""
    args = [*SMALL, "--trainer.max_epochs=12"]
    process = FORKED.Process(target=train_at, args=(args, tmp_path / "killed"))
    process.start()
    last = tmp_path / "killed" / "last.ckpt"
    wait(last.exists, process)
    process.kill()
    process.join()
    assert last.is_file(), "killed before it had ended"
    assert not (tmp_path / "killed" / "model.ckpt").exists()
    resumed = train(experiment(args), tmp_path / "killed")
    whole = train(experiment(args), tmp_path / "whole")
    assert weights_hash(vb.load(resumed)) == weights_hash(vb.load(whole))
    curves = [torch.load(p, weights_only=True)["vaebench"]["curves"] for p in (resumed, whole)]
    assert curves[0] == curves[1]
    assert not last.exists(), "what is no longer needed is gone"


def test_the_images_of_a_finished_run_do_not_stay_in_memory(tmp_path: Path) -> None:
    gc.collect()
    before = {id(o) for o in gc.get_objects() if issubclass(type(o), ImageData)}
    gc.disable()  # what is not freed by the run itself stays
    try:
        train(experiment([*SMALL, "--trainer.max_epochs=1"]), tmp_path)
        left = [o for o in gc.get_objects() if issubclass(type(o), ImageData) and id(o) not in before]
    finally:
        gc.enable()
    assert not left


def test_a_checkpoint_loads_without_its_configuration_or_its_data(tmp_path: Path) -> None:
    """Sizes that come from the data module used to be missing from saved settings."""
    args = ["--model.posterior.net", "MLP", "--model.posterior.net.width", "24", "--trainer.max_epochs=1"]
    checkpoint = train(experiment([*SMALL, *args]), tmp_path)
    code = (
        "import sys, vaebench as vb, torch; "
        f"m = vb.load('{checkpoint}'); "
        "print(type(m).__name__, m.data.shape, m.prior.loc.shape[0], m.posterior.net.layers[0].weight.shape[1], "
        "'vaebench.data.digits' in sys.modules and 'sklearn' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert out.split() == ["BetaVAE", "(1,", "8,", "8)", "4", "24", "False"]


def test_building_in_python_and_by_command_line_gives_the_same_model() -> None:
    by_line, _ = experiment([*SMALL, "--seed_everything=3"]).build()
    schedule = {"class_path": "vaebench.schedules.Linear", "init_args": {"length": 30}}
    torch.manual_seed(3)
    by_hand = vb.build("beta_vae", "digits", latent=4, schedule=schedule)
    assert weights_hash(by_line) == weights_hash(by_hand)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "not a checkpoint"), (b"PK\x03\x04 truncated", "not a checkpoint"), (None, "unknown checkpoint")],
)
def test_a_bad_checkpoint_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "model.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as error:
        vb.load(path)
    assert "model.ckpt" in str(error.value)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    checkpoint = train(experiment([*SMALL, "--trainer.max_epochs=1"]), tmp_path)
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["latent"] = 5
    torch.save(content, checkpoint)
    with pytest.raises(UserError, match="does not fit the family it names"):
        vb.load(checkpoint)


def test_early_images_count_and_speed_are_recorded(tmp_path: Path) -> None:
    info = torch.load(train(experiment([*SMALL, "--trainer.max_epochs=2"]), tmp_path), weights_only=True)["vaebench"]
    assert info["train_seconds"] == pytest.approx(2 * 1297 / info["images_per_second"], abs=6e-4)  # to a millisecond
    assert info["started_at_mean"] is True
    assert str(tmp_path) not in repr(info), "no absolute path in what becomes a record"


@pytest.mark.parametrize("seed", ["-1", "4294967296", "true", "false", "null", "1.5"])
def test_a_seed_that_no_generator_takes_is_refused(seed: str) -> None:
    """Defects: −1 and 2³² were tracebacks, and true was seed 1."""
    with pytest.raises(UserError, match="'seed_everything' cannot be"):
        experiment([*SMALL, f"--seed_everything={seed}"])


def test_the_largest_seed_trains() -> None:
    assert experiment([*SMALL, "--seed_everything=4294967295"]).build()[0].steps == 0


def test_loading_a_model_leaves_the_callers_random_state(tmp_path: Path) -> None:
    """Defect: the weights that are drawn before those of the checkpoint replace them came from the caller's stream."""
    checkpoint = train(experiment([*SMALL, "--trainer.max_epochs=1"]), tmp_path)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    vb.load(checkpoint)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_a_flipped_byte_in_a_checkpoint_is_damage_and_no_other_weights(tmp_path: Path) -> None:
    """torch loads it without a word: the figures would be those of weights that nobody trained."""
    path = train(experiment([*SMALL, "--trainer.max_epochs=1"]), tmp_path)
    raw, weight = bytearray(path.read_bytes()), next(vb.load(path).parameters()).detach().numpy().tobytes()
    raw[raw.index(weight) + 2] ^= 0x40
    path.write_bytes(raw)
    with pytest.raises(UserError, match="or it is damaged"):
        vb.load(path)


def test_an_experiment_builds_its_own_model_whatever_was_parsed_after_it() -> None:
    """Defect: experiments share a parser, and a benchmark's models had the hyperparameters of its last variant."""
    first = experiment(["--data=digits", "--model=vae", "--model.latent=3"])
    experiment(["--data=digits", "--model=beta_vae", "--model.latent=4"])
    model, _ = first.build()
    assert model.hparams["latent"] == 3
    assert model.hparams["_class_path"] == "vaebench.families.vae.VAE"
