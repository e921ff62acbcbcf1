"""Runs every case on the CPU and on the pretended device: how far apart are they, and what does the device wait for?

A process of its own, which loads the device before torch: `python device_process.py FILE [CASE …]`.
"""

from __future__ import annotations

import json
import math
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from inspect import getmembers, isabstract, isclass, signature
from pathlib import Path
from typing import Any

import pretend_gpu
import torch
from helpers import LAWFUL, SPEC, VARIANTS, bits, images_of, labels, small
from populations import args
from pretend_gpu import CPU, CUDA, MixedDevicesError, Pretend
from test_latents_laws import DENSE, DENSE_PRIORS, with_posterior, with_prior

import vaebench as vb
from vaebench import metrics
from vaebench.core import DataSpec, Family
from vaebench.data.digits import Digits
from vaebench.evaluation.estimators.likelihood import log_likelihood
from vaebench.records import read_records
from vaebench.sweep.spec.spec import read_sweep
from vaebench.sweep.storage.heartbeat import Heartbeat
from vaebench.sweep.storage.queue import take
from vaebench.sweep.storage.study import connect, create_study, default_storage
from vaebench.sweep.workers.trial import TrialRunner
from vaebench.training.experiment import experiment
from vaebench.training.population import Population

HERE = Path(__file__).parents[1]
Figures = Mapping[str, Any]
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
    return {"mixed": mixed, "waits": waits}


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
        case = CASES[name]
        try:
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
