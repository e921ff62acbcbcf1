"""The contract: groups that learn apart, refused measures, noise that leaves no trace."""

from __future__ import annotations

from itertools import pairwise
from typing import final

import pytest
import torch
from helpers import SPEC, Source, bits, small
from torch import Tensor, nn

import vaebench as vb
from vaebench.core import DataSpec, Family, Step, draw, fixed_noise
from vaebench.errors import UserError


@final
class TwoGroups(Family):
    """A critic on the code: its loss must not reach the encoder, nor the encoder's loss the critic."""

    def __init__(self, data: DataSpec) -> None:
        super().__init__(data, latent=2)
        self.critic = nn.Linear(2, 1)
        self.register_buffer("seen", torch.zeros(()))
        self.hyper(period=2)

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"model": ("posterior", "likelihood"), "critic": ("critic",)}

    def active(self, t: Tensor) -> dict[str, Tensor]:
        return {"critic": t % self.period == 0}

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        drawn = self.draw(x)
        score = self.critic(drawn.z).mean()
        return Step({"model": -drawn.log_w.mean() + score, "critic": score**2}, state={"seen": self.seen + 1})


def _trained(model: Family, batches: int) -> list[dict[str, Tensor]]:
    import lightning as L

    class Batches:
        def __len__(self) -> int:
            return batches

        def __iter__(self):
            return iter([(bits(8).float(), None)] * batches)

    states = []

    class Watch(L.Callback):
        def on_train_batch_end(self, *args: object) -> None:
            states.append({n: v.clone() for n, v in model.state_dict().items()})

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_epochs=1, callbacks=[Watch()], enable_checkpointing=False, accelerator="cpu", **quiet)
    trainer.fit(model, Batches(), Batches())
    return states


def test_groups_learn_from_their_own_loss_when_they_are_active() -> None:
    torch.manual_seed(0)
    model = TwoGroups(SPEC)
    drawn = model.draw(bits(8).float())
    expected = torch.autograd.grad((model.critic(drawn.z).mean()) ** 2, model.critic.weight)[0]
    assert expected.abs().sum() > 0
    start = model.critic.weight.detach().clone()
    states = _trained(model, 4)
    moved = [not torch.equal(a["critic.weight"], b["critic.weight"]) for a, b in pairwise(states)]
    assert not torch.equal(states[0]["critic.weight"], start), "global step 0: the critic learns"
    assert moved[0] is False, "it rests at the next one"
    assert all(
        not torch.equal(a["posterior.net.layers.0.weight"], b["posterior.net.layers.0.weight"])
        for a, b in pairwise(states)
    )
    assert [float(s["seen"]) for s in states] == [1, 2, 3, 4], "state is written after every step"


def test_a_critics_gradient_does_not_reach_the_encoder() -> None:
    """Peers' defect: one backward over the sum of both losses lets the critic's gradient into the encoder."""
    torch.manual_seed(0)
    model = TwoGroups(SPEC)
    x = bits(8).float()
    model.configure_optimizers()
    recorded: dict[str, list[Tensor | None]] = {}

    class Recorder:
        def __init__(self, group: str) -> None:
            self.group = group

        def step(self) -> None:
            recorded[self.group] = [None if p.grad is None else p.grad.clone() for p in model.members(self.group)]

        def zero_grad(self) -> None:
            for parameter in model.members(self.group):
                parameter.grad = None

    model._optimizers = [Recorder("model"), Recorder("critic")]  # type: ignore[list-item]
    torch.manual_seed(1)
    step = model.step(x, None, torch.tensor(0.0))
    model._learn(step, torch.tensor(0.0))
    torch.manual_seed(1)
    again = model.step(x, None, torch.tensor(0.0))
    for group in model.groups():
        own = torch.autograd.grad(again.losses[group], model.members(group), retain_graph=True, allow_unused=True)
        for got, expected in zip(recorded[group], own, strict=True):
            assert (got is None) == (expected is None)
            assert got is None or torch.allclose(got, expected)


def test_clip_bounds_each_groups_gradient() -> None:
    model = small("vae", clip=1e-3)
    model.configure_optimizers()
    norms = []

    class Recorder:
        def step(self) -> None:
            norms.append(float(torch.stack([p.grad.norm() for p in model.parameters()]).norm()))

        def zero_grad(self) -> None:
            model.zero_grad()

    model._optimizers = [Recorder()]  # type: ignore[list-item]
    model._learn(model.step(bits(8), None, torch.tensor(0.0)), torch.tensor(0.0))
    assert norms[0] == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("measure", "likelihood"),
    [
        ("binary", "Gaussian"),
        ("discrete17", "Gaussian"),
        ("discrete256", "Bernoulli"),
        ("continuous", "Bernoulli"),
        ("continuous", "DiscretisedLogistic"),
    ],
)
def test_a_likelihood_of_another_measure_is_refused_unless_flagged(measure: str, likelihood: str) -> None:
    spec = DataSpec((1, 4, 4), measure, torch.full((1, 4, 4), 0.3))
    path = {"class_path": f"vaebench.likelihoods.{likelihood}"}
    with pytest.raises(UserError, match=f"{likelihood} is no likelihood for '{measure}' images"):
        vb.build("vae", Source(spec), likelihood=path)
    assert vb.build("vae", Source(spec), likelihood=path, surrogate=True).surrogate


@pytest.mark.parametrize(
    ("measure", "likelihood"),
    [("binary", "Bernoulli"), ("discrete17", "DiscretisedLogistic"), ("continuous", "Gaussian")],
)
def test_the_natural_likelihood_of_each_measure(measure: str, likelihood: str) -> None:
    model = vb.build("vae", Source(DataSpec((1, 4, 4), measure, torch.full((1, 4, 4), 0.3))))
    assert type(model.likelihood).__name__ == likelihood
    assert not model.surrogate


def test_unknown_measure_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="unknown measure 'grey'"):
        DataSpec((1, 4, 4), "grey")


def test_fixed_noise_repeats_and_leaves_the_random_state() -> None:
    state = torch.get_rng_state()
    with fixed_noise(3):
        first = torch.randn(4)
    with fixed_noise(3):
        second = torch.randn(4)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_fixed_noise_restores_the_noise_of_apple_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: validation under `torch.manual_seed`, which seeds them too, made training repeat its noise after it."""
    restored: list[Tensor] = []
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: torch.tensor([7]))
    monkeypatch.setattr(torch.mps, "set_rng_state", restored.append)
    with fixed_noise(3, "mps"):
        pass
    assert [int(state) for state in restored] == [7]


def test_draw_weights_are_the_log_of_p_over_q() -> None:
    model, x = small("vae"), bits(5)
    drawn = draw(model, x, 3)
    q, p = model.posterior(x).base_dist, torch.distributions.Normal(0.0, 1.0)
    log_q = torch.distributions.Normal(q.loc, q.scale).log_prob(drawn.z).sum(-1)
    logits = model.likelihood.net(drawn.z)
    log_x = torch.distributions.Bernoulli(logits=logits).log_prob(x).sum((-1, -2, -3))
    assert drawn.z.shape == (3, 5, 2)
    assert torch.allclose(drawn.log_w, log_x + p.log_prob(drawn.z).sum(-1) - log_q)


def test_build_names_the_nearest_family_and_key() -> None:
    with pytest.raises(UserError, match="unknown family 'beta_vea'; did you mean beta_vae"):
        vb.build("beta_vea", "digits")
    with pytest.raises(UserError, match="unknown key 'bta'; did you mean beta"):
        vb.build("beta_vae", "digits", bta=2.0)
    with pytest.raises(UserError, match="unknown data set 'digts'; did you mean digits"):
        vb.build("vae", "digts")
