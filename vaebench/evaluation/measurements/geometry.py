"""The decoder's geometry at the codes of some test images, and along lines between them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vaebench.errors import Unavailable
from vaebench.evaluation.estimators import geometry
from vaebench.evaluation.estimators.reconstruction import code
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject

ACTIVE = 0.01  # of Var_x(E_q[z]): Burda's threshold, as in `active_units`
VALUES = 2**24  # of Jacobians in memory at once

AT = "J = ∂E[x|z]/∂z at {code}, {n} of the images"
LIVE = "{live} of {units} units: those with Var_x(E_q[z]) > 0.01 that the decoder reads"
LINE = "the straight line between {code} of two images, decoded at {points} points; {n} pairs"

KINDS = {
    "jacobian_norm": MetricKind("", None, f"Frobenius norm of {AT}; values of x in [0, 1], a unit of z"),
    "jacobian_rank": MetricKind("directions", None, f"(Σσ²)²/Σσ⁴ of the singular values σ, out of {{units}}, of {AT}"),
    "jacobian_condition": MetricKind(
        "", None, f"log10 of the largest over the smallest singular value of the columns of {AT}; {LIVE}"
    ),
    "column_cosine": MetricKind(
        "", False, f"mean |cos| between the columns (Rolinek et al. 2019), 0 if orthogonal, of {AT}; {LIVE}"
    ),
    "ima_contrast": MetricKind(
        "nats", False, f"Σ log|J_j| − ½ log det JᵀJ (Gresele et al. 2021), 0 if orthogonal, of {AT}; {LIVE}"
    ),
    "column_sparsity": MetricKind(
        "",
        None,
        f"(√D − |J_j|₁/|J_j|₂)/(√D − 1) (Hoyer 2004), 1 for one pixel alone, mean over columns of {AT}; {LIVE}",
    ),
    "path_stretch": MetricKind("", None, f"length over chord, at least 1, of {LINE}"),
    "path_turning": MetricKind("rad", None, f"sum of the angles between successive pieces (Milnor 1950) of {LINE}"),
}
OF_LIVE = ("jacobian_condition", "column_cosine", "ima_contrast", "column_sparsity")
OF_JACOBIAN = ("jacobian_norm", "jacobian_rank", *OF_LIVE)
OF_PATHS = ("path_stretch", "path_turning")


def measure(subject: Subject, findings: Findings, images: int = 100, pairs: int = 100, steps: int = 16) -> None:
    """Norm and spectrum of the decoder's Jacobian, orthogonality of its units, and curvature of interpolations.

    Args:
        subject: the model and its images.
        findings: receives the figures.
        images: images at whose codes the Jacobian is computed, at the cost of one decoder pass per latent.
        pairs: of images to interpolate.
        steps: pieces of an interpolation; a single one has no angle.
    """
    some = subject.some(images)
    z, which = code(subject.model, subject.x[some[:1]], subject.seed)
    units = z[0].numel()
    fill: dict[str, Any] = {"n": len(some), "live": "unknown", "units": units, "points": steps + 1}
    with findings.attempt(*KINDS, code=which, **fill):
        if not z.is_floating_point():
            raise Unavailable(f"codes of type {z.dtype} have no neighbourhood")
        decode = geometry.decoder(subject.model, z.shape[1:])
        _add_jacobian(subject, findings, decode, some, units, which)
        _add_paths(subject, findings, decode, pairs, steps, which)


def _flat_codes(subject: Subject, indices: Tensor) -> Tensor:
    return code(subject.model, subject.x[indices.to(subject.device)], subject.seed)[0].flatten(1)


def _add_jacobian(
    subject: Subject, findings: Findings, decode: geometry.Decoder, some: Tensor, units: int, which: str
) -> None:
    shards = subject.shards("geometry-jacobian", len(some), max(1, VALUES // (subject.spec.dimensions * units)))
    for shard in shards:
        jacobian = geometry.jacobian(decode, _flat_codes(subject, some[shard]))
        shards.add(shard, {"metric": geometry.metric(jacobian), "sparsity": geometry.sparsity(jacobian)})
    metric, sparsity = (shards.figures()[name] for name in ("metric", "sparsity"))
    fill: dict[str, Any] = {"code": which, "n": len(some), "units": units, "live": "unknown"}
    with findings.attempt(*OF_JACOBIAN, **fill):
        strange = ~torch.isfinite(metric).flatten(1).all(1)
        if strange.any():
            first_strange = int(some[strange.nonzero()[0]])
            raise Unavailable(f"the Jacobian is not finite at the code of image {first_strange}")
        columns = metric.diagonal(dim1=1, dim2=2).sqrt().mean(0)
        findings.units["jacobian_norm"] = columns.tolist()
        spectrum = geometry.singular_values(metric)[:, : subject.spec.dimensions]
        findings.tables["jacobian_spectrum"] = {
            "singular_values": spectrum.mean(0).tolist(),
            "sd": spectrum.std(0, correction=0).tolist(),
            "definition": f"singular values, largest first, mean and sd over the images, of {AT.format(**fill)}",
        }
        findings.average("jacobian_norm", geometry.frobenius_norm(metric), keep=False, **fill)
        findings.average("jacobian_rank", geometry.participation(metric), keep=False, **fill)
        _add_live(findings, metric, sparsity, _live(subject, columns), fill)


def _add_live(findings: Findings, metric: Tensor, sparsity: Tensor, live: Tensor, fill: dict[str, Any]) -> None:
    """Adds metrics of the Jacobian's columns of the units `live`; metric (n, units, units), sparsity (n, units)."""
    fill = {**fill, "live": len(live)}
    of_live = metric[:, live][:, :, live]
    values = geometry.singular_values(of_live)
    findings.average("jacobian_condition", (values[:, 0] / values[:, -1]).log10(), keep=False, **fill)
    findings.average("column_cosine", geometry.cosines(of_live), keep=False, **fill)
    findings.average("ima_contrast", geometry.contrast(of_live), keep=False, **fill)
    findings.average("column_sparsity", sparsity[:, live].mean(1), keep=False, **fill)


def _live(subject: Subject, columns: Tensor) -> Tensor:
    """Indices of the active units that the decoder reads; raises `Unavailable` for fewer than two."""
    mean = subject.latents.mean
    if mean is None or len(mean) < 2:
        raise Unavailable(subject.latents.why.get("mean", "one image has no variance"))
    live = ((mean.var(0) > ACTIVE) & (columns > 0)).nonzero().flatten()
    if len(live) < 2:
        raise Unavailable("fewer than two units are active and read by the decoder")
    return live


def _add_paths(
    subject: Subject, findings: Findings, decode: geometry.Decoder, pairs: int, steps: int, which: str
) -> None:
    ends = subject.some(2 * pairs)
    count = len(ends) // 2
    fill: dict[str, Any] = {"code": which, "points": steps + 1, "n": count}
    if count == 0:
        raise Unavailable("one image makes no pair")
    starts, stops = ends[:count], ends[count : 2 * count]  # of different classes in a sorted split
    shards = subject.shards("geometry-paths", count, max(1, VALUES // (subject.spec.dimensions * (steps + 1))))
    for shard in shards:
        a, b = (_flat_codes(subject, side[shard]) for side in (starts, stops))
        shards.add(shard, geometry.path(decode, a, b, steps)._asdict())
    paths = geometry.Interpolation(**shards.figures())
    still = bool((paths.length == 0).any())
    for name, values in zip(OF_PATHS, (paths.length / paths.chord, paths.turning), strict=True):
        if still:
            findings.missing(name, "the decoder makes the same image of two codes, so that no line joins them", **fill)
        elif name == "path_turning" and steps == 1:
            findings.missing(name, "one piece alone has no angle", **fill)
        else:
            findings.average(name, values, keep=False, **fill)
