"""Every family with every encoder and measure: it trains for a few steps, or says in a sentence why it does not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from importlib import import_module

import lightning as L
import pytest
import torch
from helpers import CONTINUOUS, FAMILIES, NET, SPEC, labels, own_posteriors, small, tiny
from torch import Tensor

from vaebench.configuration.discovery import families
from vaebench.core import DataSpec, Family
from vaebench.errors import UserError
from vaebench.training.silence import quiet_lightning

STEPS = 3
LIKELIHOODS = {"binary": "Bernoulli", "continuous": "Gaussian"}
SPECS = {"binary": SPEC, "continuous": CONTINUOUS}
ENCODERS = ["DiagonalGaussian", "Delta", "codes.OneHots"]
OWN = [(name, kind) for name, kind in own_posteriors().items() if kind not in ("", *ENCODERS)]
CASES = [*itertools.product(FAMILIES, ENCODERS), *OWN, ("vq_vae", "codes.ResidualQuantised")]
MISMATCHED = {"binary": "Gaussian", "continuous": "Bernoulli"}


class Batches:
    """A few batches of eight labelled images."""

    def __init__(self, data: DataSpec) -> None:
        self.data = data

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for seed in range(STEPS):
            x = torch.rand(8, *self.data.shape, generator=torch.Generator().manual_seed(seed))
            yield (x < 0.4).float() if self.data.kind == "binary" else x, labels(8)


def _posterior(encoder: str) -> type:
    module, _, kind = f"vaebench.posteriors.{encoder}".rpartition(".")
    return getattr(import_module(module), kind)


def _model(name: str, encoder: str, data: DataSpec) -> Family:
    return small(name, data, posterior=tiny(_posterior(encoder))).float()


def _reason(name: str, encoder: str, measure: str) -> str | None:
    """Why a combination is illegal, as a pattern; None where it is legal."""
    cls = families()[name]
    if measure not in cls.KINDS:
        return rf"^{cls.__name__} takes .* images, and these are '{measure}'; change data\.measure"
    if cls.POSTERIOR is None and encoder.startswith("codes."):
        return rf"^{cls.__name__} needs gradients through samples of z, and OneHots gives codes"
    if cls.POSTERIOR is not None and encoder and not issubclass(_posterior(encoder), cls.POSTERIOR):
        return rf"^{cls.__name__} needs a posterior of the kind {cls.POSTERIOR.__name__}, and \w+ is none"
    if encoder == "Delta" and cls.DENSITY:
        return rf"^{cls.__name__} needs the density of q\(z\|x\), and Delta is deterministic; set model\.posterior"
    if encoder in ENCODERS and own_posteriors()[name].startswith("hierarchy."):
        return rf"needs a posterior and a prior of several levels, and {encoder} has one; choose"
    return None


def _trained(model: Family, data: DataSpec) -> None:
    """A few steps of the base class's own loop, and a validation."""
    silent = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    with quiet_lightning():
        trainer = L.Trainer(max_epochs=1, accelerator="cpu", num_sanity_val_steps=0, **silent)
        trainer.fit(model, Batches(data), Batches(data))
    assert torch.isfinite(trainer.callback_metrics["val/objective"])


@pytest.mark.parametrize("measure", LIKELIHOODS)
@pytest.mark.parametrize(("name", "encoder"), CASES)
def test_every_combination_trains_or_is_refused_with_its_reason(name: str, encoder: str, measure: str) -> None:
    data = SPECS[measure]
    if reason := _reason(name, encoder, measure):
        with pytest.raises(UserError, match=reason):
            _model(name, encoder, data)
        return
    model = _model(name, encoder, data)
    assert type(model.likelihood).__name__ == LIKELIHOODS[measure]
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    _trained(model, data)
    x, y = next(iter(Batches(data)))
    losses = model.step(x, y, torch.tensor(float(STEPS))).losses
    assert all(torch.isfinite(loss) for loss in losses.values())
    after = dict(model.named_parameters())
    for group, prefixes in model.groups().items():
        learnt = any(bool(model.active(torch.tensor(float(t))).get(group, True)) for t in range(STEPS))
        for n in (n for n in after if n.startswith(prefixes)):
            assert torch.isfinite(after[n]).all()
            assert torch.equal(after[n], before[n]) != learnt, f"{n} of the group {group}"


@pytest.mark.parametrize("measure", MISMATCHED)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_likelihood_of_another_measure_is_refused_with_its_reason(name: str, measure: str) -> None:
    kind = MISMATCHED[measure]
    reason = (
        _reason(name, "", measure)
        or rf"^{kind} is no likelihood for '{measure}' images .* choose {LIKELIHOODS[measure]}"
    )
    with pytest.raises(UserError, match=reason):
        small(
            name, SPECS[measure], likelihood={"class_path": f"vaebench.likelihoods.{kind}", "init_args": {"net": NET}}
        )
