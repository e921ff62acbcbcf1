"""Charts of a model: the rate of each latent unit, the rate–distortion plane, and the codes in a plane."""

from __future__ import annotations

import math
from collections.abc import Sequence
from colorsys import hls_to_rgb

import torch
from torch import Tensor

from vaebench.errors import Unavailable
from vaebench.evaluation.drawing.canvas import COLOURS, FAINT, Chart, Colour, ticks
from vaebench.evaluation.metrics import Picture

BLUE, ORANGE, RED = COLOURS[0], COLOURS[1], COLOURS[3]
FEW = 12  # labels that a legend names
QUANTILE = 0.002  # of the codes on each side that a chart may leave out


def unit_bars(kl: Tensor, threshold: float = 0.01) -> Picture:
    """KL(q(z_j|x)‖p(z_j)) of every unit, largest first, on a logarithmic axis; units below the threshold are grey.

    Args:
        kl: mean over the images, nats, (units,); no number is negative.
        threshold: nats, drawn as a line.

    Raises:
        Unavailable: a rate is not finite.
    """
    _require_finite("rates of units", kl)
    order = kl.argsort(descending=True, stable=True).tolist()
    values, n = [float(kl[j]) for j in order], len(kl)
    above = sum(value > threshold for value in values)
    low = math.floor(math.log10(threshold)) - 1
    high = max(math.ceil(math.log10(max(values[0], threshold)) + 0.05), low + 2)
    powers = [(float(p), f"{10.0**p:g}") for p in range(low, high + 1)]
    named = [(i + 0.5, str(j)) for i, j in enumerate(order)][:: max(1, math.ceil(n / 32))]
    chart = Chart(
        (0, n), (low, high), "latent unit, most informative first", "KL from the prior (nats)",
        f"{above} of {n} units above {threshold:g} nats, {sum(values):.1f} nats in all",
        (max(320, min(640, 14 * n)), 260), named, powers, upright=False,
    )  # fmt: skip
    for i, value in enumerate(values):
        top = math.log10(value) if value > 0 else low
        chart.bar((i + 0.12, i + 0.88), (low, top), BLUE if value > threshold else FAINT)
    chart.line([(0, math.log10(threshold)), (n, math.log10(threshold))], RED, 1.2)
    chart.note(n * 0.995, math.log10(threshold) + 0.04, f"{threshold:g} nats", RED, "rb")
    return chart.picture()


def rate_distortion_plane(rate: float, distortion: float, curve: Sequence[tuple[float, float]] = ()) -> Picture:
    """A model in the rate–distortion plane, with lines of equal ELBO, −(rate + distortion).

    Alemi et al. 2018 (https://arxiv.org/abs/1711.00464).

    Args:
        rate: KL(q(z|x)‖p(z)), nats.
        distortion: −E log p(x|z), nats.
        curve: further (rate, distortion) pairs, joined in this order.

    Raises:
        Unavailable: one of them is not finite.
    """
    points = [(rate, distortion), *curve]
    _require_finite("rate and distortion", torch.tensor(points))
    rates, distortions = zip(*points, strict=True)
    lowest, highest = min(distortions), max(distortions)
    wide = 1.3 * max(max(rates) - min(rates), 0.8 * max(rates), 1.0)
    high = max(wide, min(1.2 * (highest - lowest), 3 * wide))  # a curve may start far above
    x0 = max(-0.03 * wide, (max(rates) + min(rates) - wide) / 2)
    y0 = (highest + lowest - high) / 2 if high > highest - lowest else lowest - 0.1 * high
    chart = Chart(
        (x0, x0 + wide), (y0, y0 + high), "rate (nats)", "distortion (nats)",
        f"rate {rate:,.1f}, distortion {distortion:,.1f}, ELBO {-rate - distortion:,.1f} nats", (360, 360),
    )  # fmt: skip
    for total, label in ticks(x0 + y0, x0 + y0 + wide + high, 8):
        chart.line([(x0, total - x0), (x0 + wide, total - x0 - wide)], (205, 208, 220), 1)
        end = min(x0 + 0.9 * wide, total - y0 - 0.04 * high)  # where the line leaves on the right, or below
        if end > x0 + 0.1 * wide and total - end < y0 + 0.97 * high:
            chart.note(end, total - end, f"ELBO {_negated(label)}", FAINT, "mm")
    if curve:
        chart.line(curve, ORANGE)
        chart.dots(curve, ORANGE, 3, 255)
        chart.legend({"this model": BLUE, "curve": ORANGE})
    chart.dots([(rate, distortion)], BLUE, 5, 255)
    return chart.picture()


def _require_finite(what: str, values: Tensor) -> None:
    if not torch.isfinite(values).all():
        raise Unavailable(f"{what} are not all finite")


def _negated(number: str) -> str:
    return number[1:] if number.startswith("-") else f"-{number}" if number.strip("0.,") else number


def aggregate_plane(z: Tensor, prior: Tensor, kl: Tensor | None = None, y: Tensor | None = None) -> Picture:
    """Codes in the plane of the two most informative units, or of the first two principal components.

    Args:
        z: one sample of q(z|x) an image, (n, units), n ≥ 2.
        prior: samples of p(z), (m, units), drawn in grey below the codes.
        kl: nats per unit, (units,); chooses the units. None takes the principal components of z.
        y: integer labels, (n,), shown as colours.

    Raises:
        Unavailable: there is one unit only, or a code is not finite.
    """
    if z.shape[1] < 2:
        raise Unavailable("one latent unit spans no plane")
    _require_finite("codes", torch.cat([z, prior]))
    z, prior = z.double().cpu(), prior.double().cpu()
    if kl is None:
        centre = z.mean(0)
        _, values, turn = torch.linalg.svd(z - centre, full_matrices=False)
        shares = 100 * values.square() / values.square().sum()
        names = [f"principal component {i + 1} ({shares[i]:.0f} % of the variance)" for i in (0, 1)]
        z, prior = (z - centre) @ turn[:2].T, (prior - centre) @ turn[:2].T
    else:
        units = kl.argsort(descending=True, stable=True)[:2].tolist()
        names = [f"unit {j} (KL {kl[j]:.2f} nats)" for j in units]
        z, prior = z[:, units], prior[:, units]
    shown = torch.cat([z, prior])
    low, high = (torch.quantile(shown, q, 0) for q in (QUANTILE, 1 - QUANTILE))
    reach = 0.55 * float((high - low).max()) or 1.0
    x, up = ((float(middle) - reach, float(middle) + reach) for middle in (low + high) / 2)
    title = f"codes of {len(z):,} images, over samples of the prior (grey)"
    chart = Chart(x, up, names[0], names[1], title, (400, 400))
    chart.dots(prior.tolist(), (198, 200, 208), 1.8, 150)
    kinds = [] if y is None else y.unique().tolist()
    for kind, colour in zip(kinds, _colours(len(kinds)), strict=True):
        chart.dots(z[y == kind].tolist(), colour)
    if not kinds:
        chart.dots(z.tolist(), BLUE)
    elif len(kinds) <= FEW:
        chart.legend(dict(zip(map(str, kinds), _colours(len(kinds)), strict=True)))
    return chart.picture()


def _colours(count: int) -> list[Colour]:
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    wheel = (hls_to_rgb(i / count, 0.35 + 0.2 * (i % 2), 0.65) for i in range(count))
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in wheel]
