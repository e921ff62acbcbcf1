"""Against collapse: who learns when, and what information the code holds, against plain loops and closed forms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import lightning as L
import numpy as np
import pytest
import torch
from helpers import bits, labels, small
from torch import Tensor

from vaebench.core import Family, Step
from vaebench.distributions import DiagonalNormal
from vaebench.errors import UserError
from vaebench.families.aggressive_vae import AggressiveVAE
from vaebench.functional.objectives import minibatch_information

DOUBLE = torch.float64


def _moved(model: Family, batches: int, y: Tensor | None = None) -> list[set[str]]:
    """Trains through Lightning and says which parts each batch changed."""

    class Batches:
        def __len__(self) -> int:
            return batches

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
            return iter([(bits(8).float(), y)] * batches)

    def parameters() -> dict[str, Tensor]:
        return {n: p.detach().clone() for n, p in model.named_parameters()}

    states = [parameters()]

    class Watch(L.Callback):
        def on_train_batch_end(self, *args: object) -> None:
            states.append(parameters())

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_epochs=1, callbacks=[Watch()], enable_checkpointing=False, accelerator="cpu", **quiet)
    trainer.fit(model.float(), Batches(), Batches())
    return [{n.split(".")[0] for n in a if not torch.equal(a[n], b[n])} for a, b in pairwise(states)]


def _step(model: Family, x: Tensor, y: Tensor | None = None, t: float = 0.0, seed: int = 0) -> Step:
    torch.manual_seed(seed)
    return model.step(x, y, torch.tensor(t, dtype=DOUBLE))


# Groups that rest


def test_a_resting_group_is_not_differentiated() -> None:
    """Its loss may even have no graph: an encoder's round costs no backward pass through the decoder's parameters."""
    model = small("encoder_steps_vae", k=3)
    model.configure_optimizers()
    start = [p.detach().clone() for p in model.members("decoder")]
    step = _step(model, bits(8))
    model._learn(step._replace(losses={**step.losses, "decoder": torch.tensor(0.0)}), torch.tensor(0.0))
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(start, model.members("decoder"), strict=True))


@pytest.mark.parametrize("k", [1, 3])
def test_the_decoder_learns_from_every_kth_batch(k: int) -> None:
    moved = _moved(small("encoder_steps_vae", k=k), 7)
    assert [("likelihood" in parts) for parts in moved] == [(t + 1) % k == 0 for t in range(7)]
    assert all("posterior" in parts for parts in moved)


# Aggressive training


def _roles_of_the_paper(
    losses: list[float], information: list[float], check: int, cap: int, patience: int, epoch: int
) -> list[tuple[bool, bool]]:
    """He et al. 2019 as nested loops: for each batch, whether the encoder and whether the decoder learns."""
    batches = iter(zip(losses, information, strict=True))
    roles: list[tuple[bool, bool]] = []
    best, misses, figures = 0.0, 0, []
    try:
        while misses < patience:
            before, window = math.inf, []
            for taken in range(1, cap + 1):
                window.append(next(batches)[0])
                roles.append((True, False))
                if taken % check == 0:
                    if sum(window) / check > before:
                        break
                    before, window = sum(window) / check, []
            figures.append(next(batches)[1])
            roles.append((False, True))
            if len(figures) == epoch:
                mean = sum(figures) / epoch
                misses, best, figures = misses + (mean < best), max(mean, best), []
        while True:
            next(batches)
            roles.append((True, True))
    except StopIteration:
        return roles


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("settings", [(3, 12, 2, 2), (1, 4, 1, 1), (2, 5, 3, 1)])
def test_aggressive_training_takes_the_turns_of_the_papers_loops(seed: int, settings: tuple[int, ...]) -> None:
    check, cap, patience, epoch = settings
    noise = np.random.RandomState(seed)
    losses = (90 + 5 * noise.randn(600) - np.linspace(0, 20, 600)).tolist()
    information = np.floor(6 * np.tanh(np.linspace(0, 3, 600)) + 0.6 * noise.randn(600)).tolist()  # with ties
    model = small("aggressive_vae", check=check, cap=cap, patience=patience, epoch=epoch)
    assert isinstance(model, AggressiveVAE)
    roles = []
    for loss, value in zip(losses, information, strict=True):
        active = model.active(torch.tensor(0.0))
        roles.append((bool(active["encoder"]), bool(active["decoder"])))
        for name, new in model._next(torch.tensor(loss), torch.tensor(value), epoch).items():
            model.get_buffer(name).copy_(new)
    expected = _roles_of_the_paper(losses, information, check, cap, patience, epoch)
    assert roles == expected
    assert {(True, False), (False, True)} <= set(roles)
    assert (True, True) in roles, "the stopping rule was reached"


def test_in_aggressive_training_one_side_learns_and_the_other_rests() -> None:
    moved = _moved(small("aggressive_vae", check=2, cap=4, patience=1, epoch=1), 5)
    first = next(i for i, parts in enumerate(moved) if "likelihood" in parts)
    assert first == 4, "two windows of two, or the cap"
    assert moved[:first] == [{"posterior"}] * first
    assert moved[first] == {"likelihood"}


def test_without_patience_both_sides_learn_from_every_batch() -> None:
    assert _moved(small("aggressive_vae", patience=0), 4) == [{"posterior", "likelihood"}] * 4


def test_an_epoch_is_the_datas_size_over_the_batchs() -> None:
    """1,000 images in batches of 500: the information is looked at after two of the decoder's turns."""
    model = small("aggressive_vae", check=1, cap=1)
    x, looks = bits(500), []
    for t in range(8):
        state = _step(model, x, t=t, seed=t).state
        looks.append(float(state["seen"]))
        for name, value in state.items():
            model.get_buffer(name).copy_(value)
    assert looks == [0, 1, 1, 0, 0, 1, 1, 0]
    assert float(model.get_buffer("best")) > 0


# Pre-training


def test_pretraining_leaves_the_decoder_at_its_start_and_then_the_helper_rests() -> None:
    model = small("pretrained_vae", pretrain=3)
    moved = _moved(model, 6)
    assert moved == [{"posterior", "helper"}] * 3 + [{"posterior", "likelihood"}] * 3


@pytest.mark.parametrize("t", [0.0, 9.0, 10.0, 15.0])
def test_the_pretrained_encoders_loss_is_an_autoencoders_and_then_the_weighted_bound(t: float) -> None:
    schedule = {"class_path": "vaebench.schedules.Linear", "init_args": {"length": 10}}
    model, x = small("pretrained_vae", pretrain=10, free=0.3, schedule=schedule), bits(6)
    with torch.no_grad():
        for parameter in model.helper.parameters():
            parameter.mul_(1.5)
    step = _step(model, x, t=t, seed=1)
    torch.manual_seed(1)
    z = model.posterior(x).rsample((1,))
    q = model.posterior(x).base_dist
    rate = (0.5 * (q.loc**2 + q.scale**2 - 1) - q.scale.log()).sum(-1)
    helped, own = (-decoder(z).log_prob(x)[0] for decoder in (model.helper, model.likelihood))
    second = (own + (t - 10) / 10 * rate.clamp(min=0.3)).mean()
    expected = helped.mean() if t < 10 else second
    assert float(step.losses["encoder"].detach()) == pytest.approx(float(expected.detach()))
    assert float(step.losses["helper"].detach()) == pytest.approx(float(helped.mean().detach()))


def test_the_helper_is_no_part_of_the_model_that_is_evaluated() -> None:
    model, x = small("pretrained_vae"), bits(4)
    torch.manual_seed(0)
    before = model.draw(x, 3).log_w
    with torch.no_grad():
        for parameter in model.helper.parameters():
            parameter.add_(1)
    torch.manual_seed(0)
    assert torch.equal(model.draw(x, 3).log_w, before)


# Labels


def test_the_auxiliary_loss_is_the_cross_entropy_of_the_labels() -> None:
    model, x, y = small("auxiliary_vae", weight=2.5, classes=3), bits(6), labels(6)
    step = _step(model, x, y, seed=1)
    torch.manual_seed(1)
    logits = model.classifier(model.posterior(x).rsample((1,))[0])
    wrong = -sum(float(torch.log_softmax(logits[i], 0)[y[i]].detach()) for i in range(6)) / 6
    assert float(step.losses["model"].detach()) == pytest.approx(2.5 * wrong - float(step.logs["elbo"].detach()))
    assert float(step.logs["accuracy"]) == pytest.approx(float((logits.argmax(-1) == y).double().mean()))


def test_predicting_labels_makes_the_code_hold_them() -> None:
    """Labels that only one pixel of sixteen tells: the auxiliary loss brings them into the code, the bound does not."""
    x = bits(128)
    y = x[:, 0, 1, 1].long()
    accuracy = {}
    for weight in (0.0, 5.0):
        model = small("auxiliary_vae", weight=weight, classes=2)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for seed in range(250):
            optimizer.zero_grad()
            _step(model, x, y, seed=seed).losses["model"].backward()
            optimizer.step()
        accuracy[weight] = float(_step(model, x, y, seed=999).logs["accuracy"])
    assert accuracy[5.0] > 0.95
    assert accuracy[0.0] < 0.75


def test_data_without_labels_is_refused_where_they_are_predicted() -> None:
    with pytest.raises(UserError, match="AuxiliaryVAE predicts labels and the data has none"):
        _step(small("auxiliary_vae"), bits(4))


# Mutual information


def test_minibatch_information_by_hand() -> None:
    q = torch.tensor([[0.6, 0.2], [0.3, 0.9]], dtype=DOUBLE)
    expected = 0.5 * (math.log(0.6 / 0.4) + math.log(0.9 / 0.6))
    assert float(minibatch_information(q.log())) == pytest.approx(expected)


def _information(means: Tensor, scale: float, seed: int = 0) -> float:
    torch.manual_seed(seed)
    q = DiagonalNormal(means, torch.full_like(means, scale))
    return float(minibatch_information(q.log_prob(q.rsample((1,))[0][:, None])))


def test_minibatch_information_is_none_for_one_posterior_and_log_b_for_disjoint_ones() -> None:
    assert _information(torch.zeros(50, 2, dtype=DOUBLE), 0.7) == pytest.approx(0, abs=1e-12)
    apart = torch.arange(50, dtype=DOUBLE)[:, None] * 100
    assert _information(apart, 0.7) == pytest.approx(math.log(50))


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_minibatch_information_bounds_the_gaussian_channels_from_below_and_comes_close(scale: float) -> None:
    """x ~ N(0, 1), z|x ~ N(x, s²): I = ½ log(1 + 1/s²)."""
    exact = 0.5 * math.log(1 + 1 / scale**2)
    torch.manual_seed(1)
    for size, gap in ((8, 0.35), (500, 0.01)):
        draws = [_information(torch.randn(size, 1, dtype=DOUBLE), scale, seed) for seed in range(4000 // size)]
        error = float(np.std(draws)) / len(draws) ** 0.5
        assert np.mean(draws) < exact + 3 * error
        assert np.mean(draws) > exact - gap - 3 * error


def test_infomax_adds_the_information_and_raises_it() -> None:
    x, held = bits(64), {}
    for alpha in (0.0, 2.0):
        model = small("infomax_vae", alpha=alpha)
        step = _step(model, x)
        expected = -float(step.logs["elbo"].detach()) - alpha * float(step.logs["information"].detach())
        assert float(step.losses["model"].detach()) == pytest.approx(expected)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for seed in range(150):
            optimizer.zero_grad()
            _step(model, x, seed=seed).losses["model"].backward()
            optimizer.step()
        held[alpha] = float(_step(model, x, seed=999).logs["information"].detach())
    assert held[2.0] > held[0.0] + 1
    assert held[2.0] <= math.log(64)
