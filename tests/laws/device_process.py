"""Runs every case on the CPU and on the pretended device: how far apart are they, and what does the device wait for?

A process of its own, which loads the device before torch: `python device_process.py FILE [CASE …]`.
"""

from __future__ import annotations

import json
import math
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from inspect import getmembers, isabstract, isclass, signature
from itertools import count
from pathlib import Path
from typing import Any

import pretend_gpu
import torch
from helpers import LAWFUL, SPEC, VARIANTS, bits, images_of, labels, small
from lightning import Callback, Trainer
from populations import args
from pretend_gpu import CPU, CUDA, MixedDevicesError, Pretend
from test_latents_laws import DENSE, DENSE_PRIORS, with_posterior, with_prior

import vaebench as vb
from vaebench import metrics
from vaebench.core import DataSpec, Family
from vaebench.core.captured import CAPTURE, WARM_UP, Captured
from vaebench.core.divergence import DivergenceWatch
from vaebench.core.rules import ADAM, OptimizerFactory, Recipe
from vaebench.data.digits import Digits
from vaebench.errors import UserError
from vaebench.evaluation.estimators.likelihood import log_likelihood
from vaebench.optimizers import AdamNormGrad
from vaebench.records import read_records
from vaebench.sweep.spec.spec import read_sweep
from vaebench.sweep.storage.heartbeat import Heartbeat
from vaebench.sweep.storage.queue import take
from vaebench.sweep.storage.study import connect, create_study, default_storage
from vaebench.sweep.workers.trial import TrialRunner
from vaebench.training.experiment import experiment
from vaebench.training.population import Population
from vaebench.training.solo import train

HERE = Path(__file__).parents[1]
Figures = Mapping[str, Any]
Capture = tuple[Figures, Captured | None]
Case = Callable[[torch.device, Pretend], tuple[Figures, list[Any]]]  # figures, and what a step waits for

MODELS: dict[str, Callable[[], Family]] = {
    **{name: partial(small, name) for name in LAWFUL},
    **{f"posterior {name}": partial(with_posterior, name) for name in DENSE},
    **{f"prior {name}": partial(with_prior, name) for name in DENSE_PRIORS},
}
MEASURED: dict[str, dict[str, Any]] = {
    "vae": {"latent": 3},
    "vq_vae": {"latent": 3},
    "hvae": {"latent": 4, **VARIANTS["hvae"][1]},
}
STEPS = 9  # of a captured training
FALLING = ["--trainer.accelerator=auto", "--data.batch_size=300", "--model.clip=50", "--lr_scheduler=ExponentialLR",
           "--lr_scheduler.gamma=0.5"]  # fmt: skip
OPTIMIZERS: dict[str, OptimizerFactory] = {
    "AdamW": partial(torch.optim.AdamW, weight_decay=0.1, amsgrad=True, fused=True),
    "SGD": partial(torch.optim.SGD, momentum=0.9, nesterov=True, fused=True),
    "AdamNormGrad": partial(AdamNormGrad, fused=True),
}
TOGETHER = ("vae", "iwae", "factor_vae", "vq_vae", "two_stage_vae")


def trained(name: str, device: torch.device, pretend: Pretend) -> tuple[Figures, list[Any]]:
    """Scores, the state after one step, and the waits of the second."""
    model = MODELS[name]().to(device)
    x = bits(8, images_of(name) if name in LAWFUL else SPEC).to(device)
    y = labels(8).to(device)
    t = torch.full((), 5.0, dtype=torch.float64, device=device)
    figures: dict[str, Any] = {}
    model.eval()
    if scored(model):
        torch.manual_seed(4)
        figures |= {f"draw {key}": value for key, value in model.draw(x, 2)._asdict().items()}
        figures["log_likelihood"] = log_likelihood(model, x, k=8, labels=y)
    figures |= model.held_out(x, y, t, seed=1)
    model.train()
    model.configure_optimizers()
    torch.manual_seed(3)
    model.learn(x, y)
    figures |= {f"state {key}": value.clone() for key, value in model.state_dict().items()}
    with pretend.counting() as waits:
        model.learn(x, y)
    return figures, waits


def scored(model: Family) -> bool:
    """Whether posterior and prior have densities, and the model needs no labels."""
    conditional = type(model).given is not Family.given
    return not conditional and type(model).DENSITY


def measured(name: str, device: torch.device, _: Pretend) -> tuple[Figures, list[Any]]:
    """All metrics of a record."""
    data = Digits(measure="binary")
    torch.manual_seed(0)
    model = vb.build(VARIANTS.get(name, (name,))[0], data, **MEASURED[name]).double().to(device)
    report = vb.evaluate(model, data, HERE / "every_measurement.yaml", limit=24, progress=False)
    figures: dict[str, Any] = {key: metric.value for key, metric in report.metrics.items()}
    figures |= {f"image {key}": torch.from_numpy(values) for key, values in report.per_image.items()}
    return figures | {f"picture {key}": torch.from_numpy(rgb) for key, rgb in report.pictures.items()}, []


def together(name: str, device: torch.device, pretend: Pretend) -> tuple[Figures, list[Any]]:
    """State of a population's members after two epochs, their metrics, and the waits of one more step."""
    population = Population(device, lanes=2, compile=False)
    folder = Path(sys.argv[1]).parent / f"{device.type}-{name}"
    members = [
        population.add(experiment([*args(name, seed), "--trainer.accelerator=auto"]), folder / str(seed))
        for seed in range(2)
    ]
    for member in members:
        member.generator.manual_seed(member.job.seed)  # a GPU's is seeded so
    for _ in range(2):
        population.epoch()
    figures: dict[str, Any] = {}
    for index, member in enumerate(members):
        figures |= {f"state {index} {key}": value.clone() for key, value in member.model.state_dict().items()}
        figures |= {f"curve {index} {key}": curve["value"][-1] for key, curve in member.history.curves.items()}
    (lane,) = population._lanes
    x, y = next(iter(lane.batches(population._batches[members[0].source][0])))
    lane.step(x, y)
    with pretend.counting() as waits:
        lane.step(x, y)
    return figures, waits


def captured(name: str, capture: bool, optimizer: OptimizerFactory = ADAM) -> Capture:
    """Weights, moments, curves, losses and noise of a training.

    Gradients are clipped. Batches differ, every fifth is smaller, and settings that end stages end them in the middle.
    """
    model = MODELS[name]().to(CUDA)
    for stage in model.STAGES:
        model.get_buffer(stage).fill_(7.0)
    model.clip, model.recipe = 5.0, Recipe({"": optimizer})
    model.captured, model.watch = Captured("the step", CUDA) if capture else None, DivergenceWatch()
    model.configure_optimizers()
    torch.manual_seed(3)
    for index in range(STEPS):
        n = 4 if index % 5 == 4 else 8
        model.learn(bits(n, images_of(name) if name in LAWFUL else SPEC, seed=index).to(CUDA), labels(n).to(CUDA))
    figures: dict[str, Any] = {f"state {key}": value for key, value in model.state_dict().items()}
    for number, own in enumerate(model._optimizers):
        for place, kept in own.state_dict()["state"].items():
            figures |= {f"{key} {number} {place}": value for key, value in kept.items()}
    figures |= {f"log {key}": value for key, value in model.means.take().items()}
    figures |= {f"loss {step} {group}": loss for step, group, loss in model.watch._taken}
    return figures | {"noise": torch.get_rng_state()}, model.captured


def captured_together(name: str, capture: bool) -> Capture:
    """The same of a population's members, whose gradients are clipped and whose learning rates fall every epoch."""
    population = Population(CUDA, lanes=2, compile=False)
    population.capture = capture
    folder = Path(sys.argv[1]).parent / f"capture-{name}-{capture}"
    members = [population.add(experiment([*args(name, seed, 3), *FALLING]), folder / str(seed)) for seed in range(2)]
    for _ in range(3):
        population.epoch()
        lanes = population._lanes
    figures: dict[str, Any] = {}
    for index, member in enumerate(members):
        figures |= {f"state {index} {key}": value for key, value in member.model.state_dict().items()}
        figures |= {f"moment {index} {key}": value for key, value in member.moments.items()}
        figures |= {f"curve {index} {key}": curve["value"][-1] for key, curve in member.history.curves.items()}
        figures[f"noise {index}"] = member.generator.get_state()
    return figures, lanes[0].captured


def captured_run(capture: bool) -> Capture:
    """The same of `vaebench fit`."""
    os.environ[CAPTURE] = str(int(capture))
    folder, seen = Path(sys.argv[1]).parent / f"capture-run-{capture}", Seen()
    torch.load(train(experiment([*args("vae", 1, 3), *FALLING]), folder, callbacks=[seen]), weights_only=True)
    os.environ[CAPTURE] = "0"
    return seen.figures, seen.captured


class Seen(Callback):
    """Takes a run's figures and what captures it at the end."""

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.captured: Captured | None = pl_module.captured
        self.figures: dict[str, Any] = {f"state {key}": value for key, value in pl_module.state_dict().items()}
        for place, kept in trainer.optimizers[0].state_dict()["state"].items():
            self.figures |= {f"{key} {place}": value for key, value in kept.items()}
        self.figures |= trainer.callback_metrics
        self.figures["noise"] = torch.get_rng_state()


def trial(device: torch.device, _: Pretend) -> tuple[Figures, list[Any]]:
    """What a sweep's worker records and reports of a trial, trained by Lightning."""
    folder = Path(sys.argv[1]).parent / f"{device.type}-trial"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(
        f"configs: [{HERE.parent}/configs/data/digits.yaml, {HERE.parent}/configs/family/beta_vae.yaml]\n"
        "overrides: {trainer.max_epochs: 2, model.latent: 3, trainer.precision: 64-true, "
        f"trainer.accelerator: {'cpu' if device.type == 'cpu' else 'gpu'}}}\n"
        "space: {model.beta: {float: [0.1, 10], log: true}}\n"
        "stop: {trials: 1}\nprotocol: {k: 5, limit: 40}\nsampler: {name: random, seed: 1}\n"
    )
    sweep = read_sweep(folder / "tiny.yaml")
    storage = connect(sweep, default_storage(sweep, folder / "results"))
    study = create_study(sweep, storage, resume=False)
    taken = take(sweep, storage, study)
    assert taken
    with Heartbeat(storage, taken[0]) as heart:
        outcome = TrialRunner(sweep, folder / "results", folder / "work")(*taken, heart)
    (record,) = read_records(folder / "results")
    figures: dict[str, Any] = {key: metric["value"] for key, metric in record.metrics.items()}
    figures |= {f"curve {key}": torch.tensor(curve["value"]) for key, curve in record.curves.items()}
    return figures | {"value": outcome.values[0]}, []


def classes(device: torch.device, _: Pretend) -> tuple[Figures, list[Any]]:
    """Every class of `vaebench.metrics` on the device, which moves to the CPU and back between two batches."""
    data = Digits(measure="binary").images("test")[:200].double()
    wide = torch.nn.functional.pad(data, (7, 7, 7, 7))
    v = torch.stack([torch.arange(200) // 2 % 2, torch.arange(200) // 4 % 2], 1)
    beside = {"factors": v, "learnt": torch.arange(200) % 2 == 0}
    settings: dict[str, dict[str, Any]] = {"DCI": {"model": "forest"}, "ImportanceWeightedLogLikelihood": {"k": 20},
                                           "BitsPerDim": {"k": 20}, "MSSSIM": {"scales": 2},
                                           "LPIPS": {"network": _apart}}  # fmt: skip
    settings |= {f"Sample{name}": {"features": _rows, "samples": 60}
                 for name in ("Precision", "Recall", "Density", "Coverage")}  # fmt: skip
    settings |= {name: {"features": _rows, "samples": 60} for name in ("FID", "KID")}
    settings |= {"InceptionScore": {"classes": lambda x: _rows(x).softmax(1), "samples": 60}}
    figures: dict[str, Any] = {}
    for name, cls in getmembers(metrics, isclass):
        if isabstract(cls):
            continue
        torch.manual_seed(0)
        family, x = (
            ("vq_vae", data) if name == "CodebookUsage" else ("vae", wide if name in ("SSIM", "MSSSIM") else data)
        )
        model = small(family, DataSpec(tuple(x.shape[1:]))).to(device)
        metric = cls(**settings.get(name, {})).to(device)
        taken = [key for key in signature(metric.update).parameters if key in beside]
        for some in (slice(0, 90), slice(90, 200)):
            metric.update(model, x[some].to(device), **{key: beside[key][some].to(device) for key in taken})
            metric = metric.to("cpu").to(device)
        value = metric.compute()
        assert value.device.type == device.type, f"{name} is computed on {value.device}"
        figures |= {name: value, f"{name} error": torch.nan_to_num(metric.standard_error, -1)}
    return figures, []


def _rows(x: torch.Tensor) -> torch.Tensor:
    """Features of images: means of their rows."""
    return x.mean((1, 3))[:, :4]


def _apart(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Distances of images."""
    return (x - y).abs().mean((1, 2, 3))


CASES: dict[str, Case] = {
    **{f"step of {name}": partial(trained, name) for name in MODELS},
    **{f"metrics of {name}": partial(measured, name) for name in MEASURED},
    **{f"population of {name}": partial(together, name) for name in TOGETHER},
    "trial of a worker": trial,
    "classes of measures": classes,
}


CAPTURES: dict[str, Callable[[bool], Capture]] = {
    **{f"capture of {name}": partial(captured, name) for name in MODELS},
    **{f"capture of a population of {name}": partial(captured_together, name) for name in TOGETHER},
    **{f"capture of vae by {name}": partial(captured, "vae", optimizer=how) for name, how in OPTIMIZERS.items()},
    "capture of a run": captured_run,
}


def replayed(case: Callable[[bool], Capture]) -> dict[str, Any]:
    """The difference of a captured training from one that is not, how much of it was replayed, or why nothing."""
    with Pretend():
        plain, _ = case(False)
        own, captured = case(True)
        assert captured is not None
        return {"apart": apart(plain, own), "figures": len(own), "reason": captured.reason,
                "replays": captured.replays, "error": None}  # fmt: skip


def pretended() -> dict[str, Any]:
    """What the device refuses, and what it counts."""
    waits = {}
    with Pretend() as pretend:
        x = torch.ones(2, device=CUDA)
        try:
            mixed = str(x + torch.ones(2))
        except MixedDevicesError as error:
            mixed = str(error)
        for name, act in {
            "item": lambda: x.sum().item(),
            "tensor": lambda: torch.tensor(1.0, device=CUDA),
            "mask": lambda: x[x > 0],
            "cpu": lambda: x.cpu(),
            "full": lambda: torch.full((), 1.0, device=CUDA),
            "scalar": lambda: x * torch.tensor(2.0),
        }.items():
            with pretend.counting() as counted:
                act()
            waits[name] = [kind for kind, *_ in counted]
        captured, calls = Captured("the step", CUDA), count()
        try:
            while True:
                captured(lambda x: x.sum().item() if next(calls) == WARM_UP else x + 1, x)
        except UserError as error:
            return {"mixed": mixed, "waits": waits, "late": str(error)}


def apart(near: Figures, far: Figures) -> tuple[float, str]:
    """The largest difference of two sets of figures, relative to values above 1, and where it is."""
    assert list(near) == list(far)
    found = [(0.0, "")]
    for name, one in near.items():
        other = far[name]
        if one is None or other is None:
            found.append((0.0 if one is other else math.inf, name))
            continue
        a, b = (torch.as_tensor(value).detach().cpu().double() for value in (one, other))
        gap = ((a - b).abs() / a.abs().clamp(min=1)).nan_to_num(0.0 if torch.equal(a.isnan(), b.isnan()) else math.inf)
        found.append((float(gap.max()) if gap.numel() else 0.0, name))
    return max(found)


def main(names: Iterable[str]) -> None:
    """Writes the difference, the waits and the error of every case to the file that is the first argument."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    pretend_gpu.prepare()
    found: dict[str, Any] = {"pretended": pretended()}
    for name in names:
        try:
            if name in CAPTURES:
                found[name] = replayed(CAPTURES[name])
                continue
            case = CASES[name]
            near, _ = case(CPU, Pretend())
            with Pretend() as pretend:
                far, waits = case(CUDA, pretend)
                figures = sum(value is not None for value in near.values())
                found[name] = {"apart": apart(near, far), "figures": figures, "waits": waits, "error": None}
        except Exception:  # one case must not hide the others
            found[name] = {"apart": [math.inf, ""], "waits": [], "error": traceback.format_exc()}
    Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[2:] or CASES)
