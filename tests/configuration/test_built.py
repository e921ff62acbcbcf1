"""Configurations are parsed once, and no object can tell."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from helpers import SPEC, Source

import vaebench as vb
from vaebench.configuration import built
from vaebench.errors import UserError

IMAGES = Source(SPEC)
OWN = """
from vaebench.core import DataSpec
from vaebench.families.beta_vae import BetaVAE


class OwnVAE(BetaVAE):
    def __init__(self, data: DataSpec, weight: float = WEIGHT, latent: int = 2) -> None:
        super().__init__(data, latent=latent)
        self.weight = weight
"""


def test_models_of_one_configuration_share_no_setting() -> None:
    """Regression: a parser shared by a process gave models the hyperparameters of the configuration parsed last."""
    scales = [1.0, 2.0]
    first = vb.build("wae_mmd", IMAGES, scales=scales, latent=2)
    first.scales.append(5.0)
    first.hparams["latent"] = 7
    second = vb.build("wae_mmd", IMAGES, scales=scales, latent=2)
    other = vb.build("wae_mmd", IMAGES, scales=[3.0], latent=3)
    assert (second.scales, other.scales, scales) == ([1.0, 2.0], [3.0], [1.0, 2.0])
    assert [model.hparams["latent"] for model in (second, other)] == [2, 3]


def test_a_remembered_configuration_builds_what_a_new_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def weights() -> list[torch.Tensor]:
        torch.manual_seed(0)
        return list(vb.build("beta_vae", IMAGES, latent=2, prior="vamp").parameters())

    remembered = [weights() for _ in range(2)][1]
    monkeypatch.setattr(built, "_parsed", {})
    assert all(torch.equal(one, other) for one, other in zip(remembered, weights(), strict=True))
    assert len(built._parsed) == 1


def test_equal_numbers_of_two_types_are_two_configurations() -> None:
    """True is 1 to Python, and no width to the parser."""
    vb.build("beta_vae", IMAGES, latent=1)
    with pytest.raises(UserError, match="latent"):
        vb.build("beta_vae", IMAGES, latent=True)
    with pytest.raises(UserError, match="latent"):
        vb.build("beta_vae", IMAGES, latent=(1,))


@pytest.mark.parametrize(("prior", "sentence"), [
    ({"class_path": "vamp", "init_args": "text"}, "model.prior.init_args is 'text', where a table .* of VampPrior"),
    ({"class_path": "vamp", "init_args": [1]}, r"model.prior.init_args is \[1\], where a table"),
    ({"class_path": "vamp", "init_args": None}, "model.prior.init_args is None, where a table"),
    ({"class_path": 3}, "model.prior.class_path is 3: expected the name"),
])  # fmt: skip
def test_settings_of_a_part_that_are_no_table_are_answered_with_a_sentence(prior: object, sentence: str) -> None:
    """Regression: a text in their place ended in a traceback."""
    with pytest.raises(UserError, match=sentence):
        vb.build("beta_vae", IMAGES, prior=prior)


@pytest.mark.usefixtures("newcomer")
def test_a_class_that_was_imported_anew_and_a_file_that_was_edited_count_as_they_are_now() -> None:
    for size in (3, 50):  # of two lengths, by which Python tells a module from what it compiled of it
        Path("family_of_test.py").write_text(OWN.replace("WEIGHT", f"{size}.0"))
        Path("mixture").write_text(f"class_path: vaebench.priors.vamp.VampPrior\ninit_args: {{components: {size}}}\n")
        assert vb.build("family_of_test.OwnVAE", IMAGES).weight == size
        assert len(vb.build("beta_vae", IMAGES, latent=2, prior="mixture").prior.inputs) == size
        del sys.modules["family_of_test"]
