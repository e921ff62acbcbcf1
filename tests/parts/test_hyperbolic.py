"""Parts on the Poincaré ball against the formulas of the papers, written apart and for any curvature."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vaebench.errors import UserError
from vaebench.networks.gyroplane import GyroplaneMLP
from vaebench.priors.hyperbolic import WrappedNormal

DOUBLE = torch.float64


def mobius(p: Tensor, z: Tensor, c: float = 1.0) -> Tensor:
    """p ⊕ z in the ball of curvature −c."""
    inner, pp, zz = ((a * b).sum(-1, keepdim=True) for a, b in ((p, z), (p, p), (z, z)))
    return ((1 + 2 * c * inner + c * zz) * p + (1 - c * pp) * z) / (1 + 2 * c * inner + c**2 * pp * zz)


def points(n: int, seed: int) -> Tensor:
    """Points of the unit ball, up to 0.95 from the centre, (7, n)."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(7, n, generator=generator, dtype=DOUBLE), dim=-1)
    return directions * torch.linspace(0, 0.95, 7, dtype=DOUBLE)[:, None]


def test_gyroplanes_are_ganea_s_distances_from_hyperplanes() -> None:
    torch.manual_seed(0)
    net, z = GyroplaneMLP((4,), (3,), width=6).double(), points(4, seed=0)
    for k, (normal, offset) in enumerate(zip(net.normals.detach().T, net.offsets.detach(), strict=True)):
        unit = normal / normal.norm()
        moved = mobius(-torch.tanh(offset) * unit, z)
        expected = torch.asinh(2 * (moved @ unit) / (1 - moved.square().sum(-1)))
        torch.testing.assert_close(net.distances(z)[:, k].detach(), expected)


def test_a_point_at_the_edge_has_distances_and_gradients() -> None:
    net, z = GyroplaneMLP((3,), (2,), width=5), torch.tensor([[0.6, 0.8, 0.0], [0.0, 1.0, 0.0]], requires_grad=True)
    net(z).sum().backward()
    assert torch.isfinite(z.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_it_treats_each_point_alone_and_adds_its_bias_last() -> None:
    net, z = GyroplaneMLP((4,), (1, 2, 3), depth=2, width=5).double(), points(4, seed=1)
    y = net(z.expand(2, 7, 4))
    assert y.shape == (2, 7, 1, 2, 3)
    torch.testing.assert_close(net(z[3]), y[1, 3])
    with torch.no_grad():
        net.output_bias.add_(1)
    torch.testing.assert_close(net(z), y[0] + 1)


@pytest.mark.parametrize("c", [0.7, 1.0, 1.4])
def test_a_prior_of_scale_half_the_root_of_c_is_mathieu_s_in_the_ball_of_curvature_minus_c(c: float) -> None:
    """Theirs has v ~ N(0, I) in units of distance; points z of that ball are z √c of the unit ball."""
    n, unit = 4, points(4, seed=2)[1:]
    z = unit / math.sqrt(c)
    r = 2 / math.sqrt(c) * torch.atanh(unit.norm(dim=-1))  # from the centre, (6,)
    normal = -0.5 * (r.square() + n * math.log(2 * math.pi))
    riemannian = normal - (n - 1) * (torch.sinh(math.sqrt(c) * r) / (math.sqrt(c) * r)).log()
    lebesgue = riemannian + n * (2 / (1 - c * z.square().sum(-1))).log()
    found = WrappedNormal((n,), scale=math.sqrt(c) / 2)().log_prob(unit)
    torch.testing.assert_close(found, lebesgue - n / 2 * math.log(c))


def test_a_prior_without_a_scale_is_as_it_was_and_one_of_no_scale_is_refused() -> None:
    z = points(3, seed=3)[1:]
    assert torch.equal(WrappedNormal((3,))().log_prob(z), WrappedNormal((3,), scale=1.0)().log_prob(z))
    with pytest.raises(UserError, match=r"scale is 0\.0: expected more than 0"):
        WrappedNormal((3,), scale=0.0)
