"""What a run costs: its parameters, and the FLOPs of a training step and of the estimate of a likelihood."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.func import vmap

from vaebench import evaluation
from vaebench.core import Family, LatentModel, fixed_noise
from vaebench.core.flops import FlopCount, Flops
from vaebench.data.base import ImageData
from vaebench.evaluation.conditions import device_and_dtype, modules
from vaebench.evaluation.flops import likelihood_flops
from vaebench.evaluation.subject import Images


def cost(
    model: LatentModel, data: Images, steps: int = 1, protocol: evaluation.Protocol | None = None
) -> dict[str, Any]:
    """The cost of a run, as its record keeps it.

    Args:
        model: the family, or a model from elsewhere, whose training is not counted, on the device of its evaluation.
        data: its data module, or images.
        steps: training steps of the run.
        protocol: that it is evaluated by; None counts no evaluation.

    Returns:
        'parameters', 'device', 'threads', 'step_images' (of a batch), 'step_flops' (of the mean training step) and
        'evaluation_flops' (of the estimate of one image's log-likelihood); where one of these two cannot be counted,
        'step_flops_unavailable' or 'evaluation_flops_unavailable' with the reason; 'uncounted', the operations in
        them that no formula counts.
    """
    weights = {id(p): p.numel() for module in modules(model) for p in module.parameters()}
    found: dict[str, Any] = {
        "parameters": sum(weights.values()),
        "device": device_and_dtype(model, torch.empty(0))[0].type,
        "threads": torch.get_num_threads(),
    }
    counts: dict[str, Callable[[], Flops]] = {}
    if isinstance(model, Family):
        training = cast(ImageData, data)
        x, labels = training.first("train", training.batch_size), training.labels("train")
        found["step_images"] = len(x)
        counts["step_flops"] = partial(step_flops, model, x, None if labels is None else labels[: len(x)], steps)
    if protocol is not None:
        counts["evaluation_flops"] = lambda: likelihood_flops(model, data, protocol)
    uncounted = set[str]()
    for name, count in counts.items():
        try:
            found[name], missed = count()
            uncounted |= missed
        except Exception as error:  # a cost is not worth a record
            found[f"{name}_unavailable"] = " ".join(str(error).split())[:300] or type(error).__name__
    return {**found, "uncounted": sorted(uncounted)}


def step_flops(model: Family, x: Tensor, y: Tensor | None = None, steps: int = 1) -> Flops:
    """FLOPs of one training step: the losses of all parameter groups, and the gradient of each that learns.

    Where groups take turns it is the mean over the steps of a run. A copy of the model steps without numbers or, where
    that fails, as for a family that reads the values of tensors, with numbers. The model and the random state stay as
    they are.

    Args:
        model: the family; turns that depend on its state are taken as they are in its present one.
        x: a batch of training images, (b, *data).
        y: their labels, (b,), or None.
        steps: of the run, at least 1.
    """
    try:
        return _mean_step(model, x, y, steps, torch.device("meta"))
    except Exception:  # whatever a family of the user's makes of numbers that are not there
        with fixed_noise(0, model.device):
            return _mean_step(model, x, y, steps, model.device)


def _mean_step(model: Family, x: Tensor, y: Tensor | None, steps: int, device: torch.device) -> Flops:
    twin = deepcopy(model).to(device).train()
    x, y, t = x.to(device, model.lr.dtype), None if y is None else y.to(device), torch.zeros((), device=device)
    total, uncounted = 0.0, frozenset[str]()
    for learning, share in _turns(model, steps).items():
        with FlopCount() as count:
            losses = twin.step(x, y, t).losses
            for group in learning:
                losses[group].backward(inputs=twin.members(group), retain_graph=True)
        total += share * count.flops.total
        uncounted |= count.flops.uncounted
    return Flops(round(total), uncounted)


def _turns(model: Family, steps: int) -> dict[tuple[str, ...], float]:
    """Which groups learn together, and the share of a run's steps at which they do."""
    groups = tuple(group for group in model.groups() if model.members(group))
    if type(model).active is Family.active:
        return {groups: 1.0}
    active = vmap(model.active)(torch.arange(steps, dtype=torch.float32, device=model.device))
    every = torch.ones(steps, dtype=torch.bool, device=model.device)
    rows, counts = torch.stack([active.get(group, every) for group in groups], 1).unique(dim=0, return_counts=True)
    return {
        tuple(group for group, learns in zip(groups, row, strict=True) if learns): count / steps
        for row, count in zip(rows.tolist(), counts.tolist(), strict=True)
    }
