"""The variational bound of a diffusion decoder, term by term, and its samples in few steps."""

from __future__ import annotations

from typing import cast

import torch

from vaebench.distributions.diffusion import Diffusion
from vaebench.errors import Unavailable
from vaebench.evaluation.drawing.pictures import COLUMNS, tiled
from vaebench.evaluation.estimators.draws import sample_posterior
from vaebench.evaluation.estimators.samples import prior_codes
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject

BATCH = 250
OF = "of a diffusion of T = {steps} steps, at one sample of q(z|x), one t and one draw an image"

KINDS = {
    "diffusion_bound": MetricKind(
        "nats", True, f"variational bound on log p(x|z), −(prior + steps + reconstruction), {OF}"
    ),
    "diffusion_prior": MetricKind("nats", False, f"KL(q(x_T|x)‖N(0, I)) {OF}"),
    "diffusion_steps": MetricKind("nats", False, f"Σ_t KL(q(x_(t−1)|x_t, x)‖p(x_(t−1)|x_t, z)) {OF}"),
    "diffusion_reconstruction": MetricKind("nats", False, f"−log p(x|x_1) {OF}"),
}


def measure(subject: Subject, findings: Findings, few: int = 10) -> None:
    """The bound, its three terms, and pictures of samples with all steps and with few.

    Args:
        subject: the model and its images.
        findings: receives the figures.
        few: steps of the shorter sampler; another one uses half as many.
    """
    with findings.attempt(*KINDS, steps="none"):
        p = subject.model.likelihood(sample_posterior(subject.model, subject.x[:1], 1, subject.seed))
        if not isinstance(p, Diffusion):
            raise Unavailable(f"the likelihood, {type(p).__name__}, is no diffusion")
        _add_terms(subject, findings, p, few)


def _add_terms(subject: Subject, findings: Findings, p: Diffusion, few: int) -> None:
    """Adds all metrics, given p(x|z) at the code of the first image."""
    model, rows = subject.model, 4
    total = len(p.noise.log_snr)
    terms = [
        torch.stack(cast(Diffusion, model.likelihood(sample_posterior(model, x, 1, subject.seed)[0])).terms(x))
        for x in subject.x.split(BATCH)
    ]
    prior, steps, reconstruction = torch.cat(terms, 1)
    for name, values in zip(KINDS, (-(prior + steps + reconstruction), prior, steps, reconstruction), strict=True):
        findings.average(name, values, steps=total)
    z = prior_codes(model, COLUMNS * rows)
    for count in dict.fromkeys((total, min(few, total), max(1, min(few, total) // 2))):
        made = cast(Diffusion, model.likelihood(z)).sample(steps=count).clamp(0, 1)
        findings.pictures[f"diffusion_samples_{count}"] = tiled(made)
