"""The noise of each measure and the order of batches, against what they are defined to be."""

from __future__ import annotations

import pytest
import torch
from lightning import LightningModule, Trainer

from vaebench.data import _batches
from vaebench.data._batches import Batches, TrainingBatches
from vaebench.data._measure import Measure
from vaebench.data.digits import Digits

MEASURES = [Measure("binary", 256), Measure("binary", 17), Measure("continuous", 256), Measure("discrete17", 17)]


def draws(measure: Measure, n: int, how: str) -> torch.Tensor:
    """n draws of an image that has each level once, (n, levels), by training batches or as a held-out split."""
    levels = torch.arange(measure.levels).to(torch.uint8).expand(n, 1, 1, measure.levels).contiguous()
    if how == "fixed":
        return measure.fixed(levels, seed=3)[:, 0, 0]
    batches = TrainingBatches(levels, None, measure, size=1000, seed=0)
    return torch.cat([x for x, _ in batches])[:, 0, 0]


@pytest.mark.parametrize("how", ["training", "fixed"])
@pytest.mark.parametrize("levels", [17, 256])
def test_dynamic_bits_are_bernoulli_with_the_grey_value(levels, how):
    n = 20_000
    bits = draws(Measure("binary", levels), n, how)
    p = torch.arange(levels) / (levels - 1)
    assert ((bits.mean(0) - p).abs() <= 5 * (p * (1 - p) / n).sqrt()).all()
    same = (bits[1:] == bits[:-1]).double().mean(0)  # independent from one draw to the next
    q = p**2 + (1 - p) ** 2
    assert ((same - q).abs() <= 5 * (2 * q * (1 - q) / n).sqrt()).all()


@pytest.mark.parametrize("how", ["training", "fixed"])
@pytest.mark.parametrize("levels", [17, 256])
def test_dequantisation_is_uniform_in_its_bin(levels, how):
    n = 20_000
    u = draws(Measure("continuous", levels), n, how).double() * levels - torch.arange(levels)
    assert u.min() >= 0
    assert u.max() <= 1 + 1e-4  # float32 keeps 16 bits of u at level 255
    assert ((u.mean(0) - 1 / 2).abs() <= 5 * (1 / 12 / n) ** 0.5).all()
    assert (((u - 1 / 2) ** 2).mean(0) - 1 / 12).abs().max() <= 5 * (1 / 180 / n) ** 0.5


def test_dequantised_white_stays_below_one():
    """255 + u rounds to 256 in float32 for u near 1: 76 times in the 10⁷ draws here without the clamp."""
    white = torch.full((10_000, 1, 1, 1000), 255, dtype=torch.uint8)
    measure = Measure("continuous", 256)
    assert measure.draw(measure.scale(white), torch.Generator().manual_seed(0)).max() < 1
    assert measure.fixed(white, seed=0).max() < 1


@pytest.mark.parametrize("measure", MEASURES, ids=str)
def test_every_image_comes_once_an_epoch_with_its_label(measure):
    loader = TrainingBatches(torch.zeros(101, 1, 2, 2, dtype=torch.uint8), torch.arange(101), measure, size=10, seed=0)
    orders = [torch.cat([y for _, y in loader]) for _ in range(2)]
    assert all(torch.equal(order.sort().values, torch.arange(101)) for order in orders)
    assert not torch.equal(*orders)
    assert len(list(loader)) == len(loader) == 11


@pytest.mark.parametrize("n", [4, 97, 128, 130, 256, 257])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 32, 64])
def test_ranks_make_as_many_batches_and_share_all_images(n, world, size):
    """Gradients are averaged batch by batch: a rank with one batch more would wait for ever."""
    images, labels = torch.zeros(n, 1, 1, 1, dtype=torch.uint8), torch.arange(n)
    for make in (
        lambda rank: TrainingBatches(images, labels, Measure("binary", 2), size, seed=1, rank=rank, world=world),
        lambda rank: Batches(images.float(), labels, size, rank, world),
    ):
        parts = [list(make(rank)) for rank in range(world)]
        assert {len(part) for part in parts} == {len(make(0))}
        assert all(0 < len(x) <= size + 1 for part in parts for x, _ in part)
        assert torch.equal(torch.cat([y for part in parts for _, y in part]).sort().values, labels)


def test_ranks_draw_different_bits():
    grey = torch.full((400, 1, 8, 8), 8, dtype=torch.uint8)
    parts = [next(iter(TrainingBatches(grey, None, MEASURES[1], 200, 0, rank=rank, world=2)))[0] for rank in (0, 1)]
    agreement = (parts[0] == parts[1]).float().mean()
    assert abs(agreement - 0.5) <= 5 * 0.5 / parts[0].numel() ** 0.5


def test_an_epoch_can_be_repeated_by_its_number():
    def labels(epoch: int) -> torch.Tensor:
        images = torch.zeros(50, 1, 1, 1, dtype=torch.uint8)
        loader = TrainingBatches(images, torch.arange(50), Measure("binary", 2), 10, 7, epoch=lambda: epoch)
        return torch.cat([y for _, y in loader])

    assert torch.equal(labels(3), labels(3))
    assert not torch.equal(labels(3), labels(4))


@pytest.mark.parametrize("measure", MEASURES, ids=str)
def test_images_too_large_for_floats_give_the_same_batches(measure, monkeypatch):
    levels = torch.randint(0, measure.levels, (64, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    floats = TrainingBatches(levels, None, measure, 10, seed=0)
    monkeypatch.setattr(_batches, "FLOAT_LIMIT", 0)
    bytes_ = TrainingBatches(levels, None, measure, 10, seed=0)
    assert (floats.images.dtype, bytes_.images.dtype) == (torch.float32, torch.uint8)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(floats, bytes_, strict=True))


class Recorder(LightningModule):
    """Keeps the batches that Lightning hands out."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        self.validated = 0

    def training_step(self, batch, index):
        self.seen.append((self.current_epoch, *batch))
        return self.weight * 1.0

    def validation_step(self, batch, index):
        self.validated += len(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(epochs: int, resume: str | None = None, save: str | None = None) -> Recorder:
    torch.manual_seed(11)
    trainer = Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    model = Recorder()
    trainer.fit(model, Digits(batch_size=200), ckpt_path=resume, weights_only=True)
    if save:
        trainer.save_checkpoint(save)
    return model


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning 2.6 on torch 2.13
def test_lightning_trains_on_the_epochs_batches_and_resumes_among_them(tmp_path):
    whole = fit(3)
    assert [epoch for epoch, *_ in whole.seen] == [0] * 7 + [1] * 7 + [2] * 7
    assert whole.validated == 3 * 200
    torch.manual_seed(11)
    data = Digits(batch_size=200)
    loader = data.train_dataloader()
    alone = [batch for _ in range(3) for batch in loader]
    assert all(torch.equal(x, a) and torch.equal(y, b) for (_, x, y), (a, b) in zip(whole.seen, alone, strict=True))
    fit(1, save=str(tmp_path / "one.ckpt"))
    rest = fit(3, resume=str(tmp_path / "one.ckpt"))
    assert all(torch.equal(a, b) for (_, a, _), (_, b, _) in zip(rest.seen, whole.seen[7:], strict=True))


@pytest.mark.parametrize("measure", MEASURES, ids=str)
def test_batches_side_by_side_are_those_of_each_run_alone(measure):
    levels = torch.arange(37 * 4).remainder(measure.levels).to(torch.uint8).reshape(37, 1, 2, 2)
    streams = [(0, 3), (5, 0), (5, 1)]
    alone = [TrainingBatches(levels, torch.arange(37), measure, 10, seed, lambda e=epoch: e) for seed, epoch in streams]
    together = TrainingBatches(levels, torch.arange(37), measure, 10, seed=9).side_by_side(streams)
    for (x, y), *singles in zip(together, *alone, strict=True):
        assert torch.equal(x, torch.stack([x for x, _ in singles]))
        assert torch.equal(y, torch.stack([y for _, y in singles]))
