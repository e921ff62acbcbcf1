"""A benchmark file's settings of all variants and those of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vaebench.running.benchmark import read_benchmark
from vaebench.training.experiment import experiment


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"model": "vae"}, ("VAE", 3, None)),
        ({"model": {"class_path": "beta_vae", "init_args": {"beta": 2}}}, ("BetaVAE", 3, 2.0)),
        ({"model": {"class_path": "beta_vae", "init_args": {"beta": 2, "latent": 5}}}, ("BetaVAE", 5, 2.0)),
        ({"model.latent": 4, "model": "beta_vae", "model.beta": 1}, ("BetaVAE", 4, 1.0)),
    ],
)
def test_settings_of_all_variants_hold_for_the_model_that_a_variant_names(
    own: dict[str, Any], expected: tuple[Any, ...], tmp_path: Path
) -> None:
    """Defect: a shared model.latent came before the variant's model and was refused: 'model' cannot be '3'."""
    content = {"overrides": {"data": "digits", "model.latent": 3}, "runs": {"one": {"overrides": own}}}
    (tmp_path / "b.yaml").write_text(json.dumps(content))
    (run,) = read_benchmark(tmp_path / "b.yaml").runs
    model = experiment(run.args).plain["model"]
    settings = model["init_args"]
    assert (model["class_path"].rpartition(".")[2], settings["latent"], settings.get("beta")) == expected


def test_a_part_that_a_variant_names_keeps_the_settings_that_all_have(tmp_path: Path) -> None:
    shared = {"data": "digits", "model.prior.components": 20}
    content = {"overrides": shared, "runs": {"one": {"overrides": {"model": "vae", "model.prior": "vamp"}}}}
    (tmp_path / "b.yaml").write_text(json.dumps(content))
    prior = experiment(read_benchmark(tmp_path / "b.yaml").runs[0].args).plain["model"]["init_args"]["prior"]
    assert (prior["class_path"].rpartition(".")[2], prior["init_args"]["components"]) == ("VampPrior", 20)
