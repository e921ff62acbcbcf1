"""Posteriors over codes: n positions, each with one of k codes. `latent` is the number of positions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebench.distributions import DiagonalNormal
from vaebench.distributions.codes import Categorical, PointMass, UnitsAndCodes
from vaebench.errors import UserError
from vaebench.functional.objectives import with_gradient
from vaebench.functional.quantisation import (
    Memory,
    Processes,
    Quantised,
    book_of,
    drawn,
    grid,
    moved,
    quantised,
    quantised_signs,
    revived,
    rounded,
    taken,
)
from vaebench.measures import Shape
from vaebench.networks import MLP, Network
from vaebench.posteriors import Posterior

Net = Callable[[Shape, Shape], Network]


class Codes(Posterior):
    """q(z|x) over latents composed of codes; see `vaebench.distributions.codes`.

    Attributes:
        places: n.
    """

    discrete = True
    places: int

    @property
    @abstractmethod
    def book(self) -> Tensor:
        """The codebook, (l, k, d)."""


class OneHots(Codes):
    """q(z|x) = Π_i Categorical(z_i; softmax of logits(x)_i): n independent one-hot codes, z (…, n k).

    Jang, Gu & Poole 2017 (https://arxiv.org/abs/1611.01144).

    Args:
        data: shape of an image.
        latent: (n,).
        net: builds the network from an image to the logits.
        codes: k, 2 or more.

    Raises:
        UserError: fewer than two codes.
    """

    one_hots: Tensor

    def __init__(self, data: Shape, latent: Shape, net: Net = MLP, codes: int = 10) -> None:
        super().__init__()
        _require(self, "codes", codes, 2)
        self.places, self.event = prod(latent), (prod(latent) * codes,)
        self.register_buffer("one_hots", torch.eye(codes)[None])
        self.net = net(data, (self.places, codes))

    @property
    def book(self) -> Tensor:
        return self.one_hots

    def forward(self, c: Tensor | None = None) -> Categorical:
        return Categorical(self.net(c), self.book, self.places)


class NormalAndOneHots(Codes):
    """q(z|x) of d Gaussian units and `places` independent one-hot codes: z (…, d + places · k).

    Dupont 2018 (https://arxiv.org/abs/1804.00104).

    Args:
        data: shape of an image.
        latent: (d,), the Gaussian units.
        net: builds the network from an image to means, log-scales and logits.
        codes: k, 2 or more.
        places: number of one-hot codes, 1 or more.

    Raises:
        UserError: fewer than two codes, or no position.
    """

    one_hots: Tensor

    def __init__(self, data: Shape, latent: Shape, net: Net = MLP, codes: int = 10, places: int = 1) -> None:
        super().__init__()
        _require(self, "codes", codes, 2)
        _require(self, "places", places, 1)
        self.units, self.places = prod(latent), places
        self.event = (self.units + places * codes,)
        self.register_buffer("one_hots", torch.eye(codes)[None])
        self.net = net(data, (2 * self.units + places * codes,))

    @property
    def book(self) -> Tensor:
        return self.one_hots

    def forward(self, c: Tensor | None = None) -> Distribution:
        out = self.net(c)
        loc, log_scale, logits = out.split([self.units, self.units, out.shape[-1] - 2 * self.units], -1)
        codes = Categorical(logits.unflatten(-1, (self.places, -1)), self.book, self.places)
        return UnitsAndCodes(DiagonalNormal(loc, log_scale.exp()), codes)


class ResidualQuantised(Codes):
    r"""A point mass at the nearest codes of n vectors, with residual quantisation in l levels: z (…, n l d).

    .. math:: z_i = (e_{i1}, \dots, e_{il}), \qquad e_{ij} = \arg\min_e |r_{ij} - e|, \quad r_{i1} = z_e(x)_i, \;
              r_{i,j+1} = r_{ij} - e_{ij}

    z concatenates the codes of all levels; the decoder reads their sum (`priors.codes.CodePrior.see`). The gradient of
    the sum passes to the network's vectors unchanged (straight-through). The codebook is a moving average (`after`),
    not a parameter; it is initialised with noise, then with vectors of the first batch. Zeghidour et al. 2021
    (https://arxiv.org/abs/2107.03312); Lee et al. 2022 (https://arxiv.org/abs/2203.01941).

    Args:
        data: shape of an image.
        latent: (n,).
        net: builds the network from an image to the vectors.
        codes: k, 2 or more.
        width: d.
        levels: l.

    Raises:
        UserError: fewer than two codes, or no width or level.
    """

    ALSO = ("RVQ",)

    shares: Tensor
    sums: Tensor

    def __init__(
        self, data: Shape, latent: Shape, net: Net = MLP, codes: int = 64, width: int = 8, levels: int = 4
    ) -> None:
        super().__init__()
        for name, value, least in (("codes", codes, 2), ("width", width, 1), ("levels", levels, 1)):
            _require(self, name, value, least)
        self.places, self.event = prod(latent), (prod(latent) * levels * width,)
        self.net = net(data, (self.places, width))
        self.register_buffer("shares", torch.full((levels, codes), 1 / codes))
        self.register_buffer("sums", torch.randn(levels, codes, width) / codes)

    @property
    def book(self) -> Tensor:
        return book_of(Memory(self.shares, self.sums))

    def read(self, x: Tensor | None) -> tuple[PointMass, Quantised]:
        """The point mass for images x (b, *data), and the quantisation behind it."""
        book = self.book
        nearest = quantised(self.net(x), book)
        first = with_gradient(nearest.codes[..., :1, :], nearest.inputs[..., :1, :])
        point = torch.cat([first, nearest.codes[..., 1:, :]], -2).flatten(-3)
        return PointMass(point, book, self.places), nearest

    def forward(self, c: Tensor | None = None) -> PointMass:
        return self.read(c)[0]

    def after(
        self, nearest: Quantised, decay: Tensor, least: Tensor, t: Tensor, learns: Tensor, processes: Processes
    ) -> dict[str, Tensor]:
        """The buffers after a batch: updated averages, with rarely used codes reinitialised.

        Several processes average what their batches say before they look which codes are dead, and take the fresh
        vectors of the first of them: the mean of several vectors is none that the encoder gives.

        Args:
            nearest: from `read`.
            decay: γ in [0, 1).
            least: threshold for dead codes, as a fraction of the usage 1/k; at t = 0 all codes are dead.
            t: training step.
            learns: 0-dim boolean; false returns the buffers unchanged.
            processes: that train together, each on its own batch.
        """
        size = self.shares.shape[1]
        memory = Memory(self.shares, self.sums)
        new = moved(memory, Memory(*map(processes.pooled, taken(nearest, size))), decay)
        fresh = processes.of_first(drawn(nearest, size))
        new = revived(new, fresh, (new.shares < least / size) | (t == 0))
        kept = (torch.where(learns, a, b) for a, b in zip(new, memory, strict=True))
        return dict(zip(("posterior.shares", "posterior.sums"), kept, strict=True))


class VectorQuantised(ResidualQuantised):
    """A point mass at the nearest codes of a network's n vectors, z (…, n d): `ResidualQuantised` with one level.

    van den Oord et al. 2017 (https://arxiv.org/abs/1711.00937).

    Args:
        data: shape of an image.
        latent: (n,).
        net: builds the network from an image to the vectors.
        codes: k, 2 or more.
        width: d.
    """

    ALSO = ("VQ",)

    def __init__(self, data: Shape, latent: Shape, net: Net = MLP, codes: int = 64, width: int = 8) -> None:
        super().__init__(data, latent, net, codes, width, levels=1)


class FiniteScalar(Codes):
    """A point mass at a network's n vectors with each value rounded to one of a few levels: z (…, n d).

    Mentzer et al. 2023 (https://arxiv.org/abs/2309.15505).

    Args:
        data: shape of an image.
        latent: (n,).
        net: builds the network from an image to the vectors.
        levels: L of each of the d values; their product k is the number of codes. The paper uses 5 or more each.

    Raises:
        UserError: no values, or a value with fewer than two levels.
    """

    ALSO = ("FSQ",)

    grid: Tensor
    steps: Tensor

    def __init__(self, data: Shape, latent: Shape, net: Net = MLP, levels: Sequence[int] = (8, 6, 5)) -> None:
        super().__init__()
        _require(self, "levels", min(levels, default=0), 2)
        self.places, self.event = prod(latent), (prod(latent) * len(levels),)
        self.net = net(data, (self.places, len(levels)))
        self.register_buffer("grid", grid(levels))
        self.register_buffer("steps", torch.tensor(levels), persistent=False)

    @property
    def book(self) -> Tensor:
        return self.grid

    def forward(self, c: Tensor | None = None) -> PointMass:
        return PointMass(rounded(self.net(c), self.steps).flatten(-2), self.book, self.places)


class LookupFree(Codes):
    """A point mass at the signs of a network's n vectors of d values, z (…, n d): k = 2^d codes without a codebook.

    Yu et al. 2023 (https://arxiv.org/abs/2310.05737).

    Args:
        data: shape of an image.
        latent: (n,).
        net: builds the network from an image to the vectors.
        bits: d, 1 to 16.

    Raises:
        UserError: no bits, or too many to enumerate the codes.
    """

    ALSO = ("LFQ",)

    grid: Tensor

    def __init__(self, data: Shape, latent: Shape, net: Net = MLP, bits: int = 6) -> None:
        super().__init__()
        _require(self, "bits", bits, 1)
        if bits > 16:
            raise UserError(f"LookupFree has bits {bits}: expected 16 or fewer; lower model.posterior.bits")
        self.places, self.event = prod(latent), (prod(latent) * bits,)
        self.net = net(data, (self.places, bits))
        self.register_buffer("grid", 2 * grid([2] * bits) + 1)

    @property
    def book(self) -> Tensor:
        return self.grid

    def read(self, x: Tensor | None) -> tuple[PointMass, Tensor]:
        """The point mass for images x (b, *data), and the vectors before taking signs, (b, n, d)."""
        vectors = self.net(x)
        return PointMass(quantised_signs(vectors).flatten(-2), self.book, self.places), vectors

    def forward(self, c: Tensor | None = None) -> PointMass:
        return self.read(c)[0]


def _require(who: Posterior, name: str, value: int, least: int) -> None:
    if value < least:
        raise UserError(
            f"{type(who).__name__} has {name} {value}: expected {least} or more; set model.posterior.{name} so"
        )
