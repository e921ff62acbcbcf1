"""docs/adapters.md is one program that runs, and its adapters judge foreign models by the same figures."""

from __future__ import annotations

import re
import sys
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from oracles import Data
from torch import Tensor, nn

import vaebench as vb
from vaebench.evaluation import Protocol

PAGE = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text()


class Encoder(nn.Module):
    """As pythae's encoders: the two halves of a network's output by name."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> SimpleNamespace:
        mean, log_variance = self.net(x).chunk(2, -1)
        return SimpleNamespace(embedding=mean, log_covariance=log_variance)


class Decoder(nn.Module):
    """As pythae's decoders: probabilities of one batch of codes, (b, latent) -> (b, *data)."""

    def __init__(self, net: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.net, self.shape = net, shape

    def forward(self, z: Tensor) -> SimpleNamespace:
        assert z.dim() == 2
        return SimpleNamespace(reconstruction=self.net(z).sigmoid().reshape(-1, *self.shape))


class PythaeVAE(nn.Module):
    """What pythae's VAE shows of itself, around any two networks; benchmarks/likelihood.py has the real one."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, shape: tuple[int, ...], latent: int, loss: str) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(encoder), Decoder(decoder, shape)
        self.input_dim, self.latent_dim = shape, latent
        self.model_config = SimpleNamespace(reconstruction_loss=loss)


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The names that the page leaves behind; only the folder of a trained pythae model is put in its place."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        if "Pythae(trained)" in block:
            theirs = names["theirs"]
            names["trained"] = PythaeVAE(theirs.encoder, theirs.decoder, (1, 8, 8), 6, "bce")
        exec(compile(block, "docs/adapters.md", "exec"), names)
    return names


def test_the_page_runs_and_both_adapters_give_the_same_networks_the_same_figures(page: dict[str, Any]) -> None:
    plain = vb.log_likelihood(page["Adapter"](page["theirs"]), page["x"], k=200)
    torch.testing.assert_close(page["log_likelihood"], plain, rtol=0, atol=1e-3)
    assert page["report"].metrics["log_likelihood"].value == pytest.approx(float(plain.mean()), abs=1e-3)


@pytest.mark.parametrize("protocol", ["quick", "likelihood"])
def test_a_foreign_module_gets_every_figure_that_a_family_gets(page: dict[str, Any], protocol: str) -> None:
    theirs = deepcopy(page["theirs"])
    theirs.encoder[-1].weight.data *= 10  # as if trained: all units are active
    wrapped = PythaeVAE(theirs.encoder, theirs.decoder, (1, 8, 8), 6, "bce")
    for model in (page["Adapter"](theirs), page["Pythae"](wrapped)):
        report = vb.evaluate(
            model, page["data"], protocol, k=50, measurements={"geometry": {}, "pictures": {}}, limit=40
        )
        missing = {name: metric.unavailable for name, metric in report.metrics.items() if metric.value is None}
        assert set(missing) == {"ssim", "ms_ssim", "ms_ssim_3", "lpips"}  # the digits are smaller than their windows
        assert report.tables["pictures_left_out"] == {}


def test_saturated_probabilities_cost_what_pythaes_loss_says(page: dict[str, Any]) -> None:
    """Logits of probabilities 0 and 1 are infinite, and 0 · ∞ is no number."""
    logits = torch.tensor([-200.0, -60, -5, 0, 5, 14, 60, 200])
    model = PythaeVAE(nn.Identity(), nn.Identity(), (1, 1, 8), 8, "bce")
    p = page["Pythae"](model).likelihood(logits.expand(2, 3, 8))
    for x in (torch.zeros(3, 1, 1, 8), torch.ones(3, 1, 1, 8)):
        cost = F.binary_cross_entropy(logits.sigmoid().expand(3, 8), x.flatten(1), reduction="none").sum(-1)
        for found in (p.log_prob(x), torch.inference_mode()(p.log_prob)(x)):
            torch.testing.assert_close(found, -cost.expand(2, 3), rtol=1e-5, atol=1e-4)


def test_a_squared_error_is_a_gaussian_of_unit_scale(page: dict[str, Any]) -> None:
    model = PythaeVAE(nn.Identity(), nn.Linear(3, 8), (2, 2, 2), 3, "mse")
    z, x = torch.randn(4, 5, 3), torch.rand(5, 2, 2, 2)
    loss = 0.5 * (model.decoder(z.flatten(0, 1)).reconstruction.unflatten(0, (4, 5)) - x).square().flatten(2).sum(-1)
    constant = 4 * torch.log(torch.tensor(2 * torch.pi))
    torch.testing.assert_close(page["Pythae"](model).likelihood(z).log_prob(x), -loss - constant)


def test_a_pythae_callback_notes_what_the_harness_records(page: dict[str, Any], monkeypatch: Any) -> None:
    """The callback of docs/metrics.md, called as pythae's handler does; on pythae's own class where it is installed."""
    if find_spec("pythae") is None:
        module = ModuleType("pythae.trainers.training_callbacks")
        module.TrainingCallback = type("TrainingCallback", (), {})  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        for name in ("pythae", "pythae.trainers"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    names = {"Pythae": page["Pythae"]}
    exec(next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "pythae" in block), names)
    torch.manual_seed(0)
    prototypes = torch.rand(4, 1, 4, 4) < 0.5
    x = (prototypes[torch.arange(60) % 4].float() - (torch.rand(60, 1, 4, 4) < 0.05).float()).abs()
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 2 * 3))
    model = PythaeVAE(encoder, nn.Linear(3, 16), (1, 4, 4), 3, "bce")
    callback, optimizer = names["Units"](x), torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(2):
        for batch in x.split(20):
            adapted = page["Pythae"](model)
            q = adapted.posterior(batch)
            z = q.rsample(torch.Size((1,)))
            rate = q.log_prob(z) - adapted.prior().log_prob(z)
            optimizer.zero_grad()
            (rate - adapted.likelihood(z).log_prob(batch)).mean().backward()
            optimizer.step()
        callback.on_epoch_end(SimpleNamespace(), model=model, optimizer=optimizer, scheduler=None)
    plan = Protocol("own", 0, None, {"units": {}, "collapse": {}})
    report = vb.evaluate(page["Pythae"](model), Data(x), plan, progress=False)
    assert len(callback.epochs) == 2
    assert callback.epochs[-1]["active"] == report.metrics["active_units"].value
    assert callback.epochs[-1]["units"] == report.collapse["units"]
    assert callback.epochs[-1]["collapsed"] == len(report.collapse["units"])
