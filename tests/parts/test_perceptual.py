"""Feature reconstruction with a given network, and the VAE with a critic of images."""

from __future__ import annotations

import pytest
import torch
from helpers import NET, SPEC, Source, bits, noisy_step, small
from oracles import Data
from torch import Tensor, nn

import vaebench as vb
from vaebench.errors import UserError
from vaebench.networks import MLP

HERE = __name__


class TwoLayers(nn.Module):
    """A user's network of features: two layers."""

    def __init__(self, shape: tuple[int, ...], width: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Conv2d(shape[0], width, 3)
        self.second = nn.Linear(width * 4, 5)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = torch.relu(self.first(x))
        return first, self.second(first.flatten(1))


class Pixels(nn.Module):
    """The images themselves."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


class ForColour(nn.Conv2d):
    """A network for three channels."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(3, 4, 3)


class Averages(nn.Module):
    """A network that loses its images' axis."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.mean()


def perceptual(features: type, **settings: object) -> dict:
    own = {"features": {"class_path": f"{HERE}.{features.__name__}"}, "net": NET, **settings}
    return {"class_path": "vaebench.likelihoods.perceptual.Perceptual", "init_args": own}


def built(features: type, family: str = "vae", **settings: object) -> vb.Family:
    return small(family, likelihood=perceptual(features, **settings), surrogate=True)


def test_the_distance_is_that_of_features_layer_by_layer() -> None:
    model, x = built(TwoLayers, weight=7.0), bits(4)
    z = torch.randn(2, 4, 2, dtype=torch.float64)
    with torch.no_grad():
        p = model.likelihood(z)
        found = p.log_prob(x)
        network = TwoLayers(SPEC.shape).double()
        for k in range(2):
            for b in range(4):
                pairs = zip(network(x[b][None]), network(p.mean[k, b][None]), strict=True)
                expected = -3.5 * sum(float((a - c).square().mean()) for a, c in pairs)
                assert float(found[k, b]) == pytest.approx(expected)


def test_without_a_network_in_between_it_is_the_squared_error() -> None:
    model, x = built(Pixels), bits(4)
    with torch.no_grad():
        p = model.likelihood(torch.zeros(1, 4, 2, dtype=torch.float64))
        assert torch.allclose(p.log_prob(x)[0], -(p.mean[0] - x).square().flatten(1).sum(1) / 2)


def test_the_feature_network_never_learns_and_its_weights_are_kept() -> None:
    model, x = built(TwoLayers), bits(8)
    assert not [name for name, _ in model.named_parameters() if "features" in name]
    assert "likelihood.features.first.weight" in model.state_dict()
    (loss,) = noisy_step(model, x, seed=0).values()
    assert all(g is not None for g in torch.autograd.grad(loss, list(model.parameters())))
    assert not model.likelihood.features.first.weight.requires_grad


def test_it_must_be_accepted_and_is_flagged() -> None:
    with pytest.raises(UserError, match=r"Perceptual is no likelihood for 'binary' images"):
        small("vae", likelihood=perceptual(TwoLayers))
    assert built(TwoLayers).surrogate
    report = vb.evaluate(built(TwoLayers).eval(), Data(bits(4), SPEC), k=4, progress=False)
    assert report.metrics["mse"].value is not None


def test_a_network_for_other_images_is_refused_with_its_reason() -> None:
    with pytest.raises(UserError, match=r"ForColour does not take images of shape \(1, 4, 4\) .*; set likelihood"):
        built(ForColour)
    with pytest.raises(UserError, match="Averages gives no features for each of its images"):
        built(Averages)


def test_the_vae_gans_losses_are_larsens() -> None:
    """Encoder: rate and features; decoder: features, and fooling with copies and dreams; critic: telling both."""
    model, x = small("vae_gan", pixels=0.0, likeness=0.5, adversarial=0.25), bits(6)
    losses = noisy_step(model, x, seed=3)
    torch.manual_seed(3)
    with torch.no_grad():
        q = model.posterior(x)
        z = q.rsample((1,))
        copied = model.likelihood(z).mean[0]
        dreamt = model.likelihood(model.prior().rsample((1, 6))).mean[0]

        def d(images: Tensor) -> Tensor:
            return torch.sigmoid(model.critic_head(torch.tanh(model.critic(images))))[:, 0]

        rate = torch.distributions.kl_divergence(q, model.prior()).mean()
        features = 0.25 * (model.critic(x) - model.critic(copied)).square().sum(-1).mean()
        fooling = -0.25 * (d(copied).log().mean() + d(dreamt).log().mean())
        telling = -d(x).log().mean() - ((1 - d(copied)).log().mean() + (1 - d(dreamt)).log().mean()) / 2
    assert float(losses["encoder"].detach()) == pytest.approx(float(rate + features))
    assert float(losses["decoder"].detach()) == pytest.approx(float(features + fooling))
    assert float(losses["critic"].detach()) == pytest.approx(float(telling / 2))


def test_a_critic_learns_only_to_tell_and_the_others_never_help_it() -> None:
    """A peer's critic shares one optimiser with the encoder, so that it learns to be fooled."""
    model, x = small("vae_gan"), bits(6)
    losses = noisy_step(model, x, seed=0)
    groups = {name: model.members(name) for name in model.groups()}
    assert {id(p) for p in groups["critic"]} == {
        id(p) for m in (model.critic, model.critic_head) for p in m.parameters()
    }
    own = torch.autograd.grad(losses["critic"], groups["critic"], retain_graph=True)
    model.zero_grad()
    losses["critic"].backward(inputs=groups["critic"])
    assert all(torch.equal(p.grad, g) for p, g in zip(groups["critic"], own, strict=True))
    assert all(p.grad is None for name in ("encoder", "decoder") for p in groups[name])


def test_a_critic_may_be_any_network() -> None:
    conv = {"class_path": "vaebench.networks.Conv", "init_args": {"channels": 2, "levels": 1}}
    model = vb.build("vae_gan", Source(SPEC), latent=2, critic=conv, features=5).double()
    assert all(torch.isfinite(loss) for loss in noisy_step(model, bits(4), seed=0).values())
    assert isinstance(small("vae_gan").critic, MLP)
