"""What the geometric families are for: on images of two independent parts, each latent comes to move one part."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import SPEC, small
from torch import Tensor

from vaebench.core import DataSpec, Family
from vaebench.functional.jacobians import axes, pushed

STEPS, IMAGES = 500, 1000


def _two_parts() -> Tensor:
    """The upper and the lower half of the pixels, each as bright as a factor of its own, with a little noise."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.rand(IMAGES, 2, generator=generator, dtype=torch.float64)
    noise = 0.05 * torch.randn(IMAGES, 16, generator=generator, dtype=torch.float64)
    return (factors.repeat_interleave(8, 1) + noise).clamp(0, 1).reshape(IMAGES, *SPEC.shape)


def _trained(name: str, x: Tensor, seed: int, settings: dict[str, Any]) -> Family:
    model = small(name, DataSpec(SPEC.shape, "continuous", x.mean(0), size=IMAGES), seed, **settings)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for t in range(STEPS):
        torch.manual_seed(t)
        step = model.step(x[torch.randint(IMAGES, (64,))], None, torch.tensor(float(t), dtype=torch.float64))
        optimizer.zero_grad()
        step.losses["model"].backward()
        optimizer.step()
        for buffer, value in step.state.items():
            model.get_buffer(buffer).copy_(value.detach())
    return model


def _alignment(model: Family, x: Tensor) -> float:
    """The share of the absolute Jacobian that pairs each latent with one part: 1 is one part a latent, 1/2 none."""
    with torch.no_grad():
        z = model.posterior(x).mean
        moved = pushed(lambda z: model.likelihood(z).mean, z, axes(z)).abs().flatten(2).mean(1)  # (latents, pixels)
    parts = moved.unflatten(1, (2, 8)).sum(-1)
    return float(torch.stack([parts.trace(), parts.flip(1).trace()]).max() / parts.sum())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("jl_vae", {"beta": 1.0, "gamma": 1.0}),
        ("jl_vae", {"beta": 1.0, "gamma": 1.0, "samples": 1}),
        ("sparse_vae", {}),
    ],
    ids=["jl1-exact", "jl1-estimate", "sparse"],
)
def test_a_sparse_jacobian_gives_each_latent_a_part(name: str, settings: dict[str, Any]) -> None:
    x = _two_parts()
    assert _alignment(_trained(name, x, 0, settings), x) > 0.85


def test_a_penalty_that_no_rotation_changes_leaves_the_parts_mixed() -> None:
    x = _two_parts()
    assert _alignment(_trained("jl2_vae", x, 0, {"beta": 1.0, "gamma": 1.0}), x) < 0.75
