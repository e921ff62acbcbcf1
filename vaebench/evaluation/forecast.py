"""How long an evaluation will take, from the time that a few of the decoder's passes take."""

from __future__ import annotations

import time

from vaebench.core import LatentModel
from vaebench.evaluation.conditions import evaluation_mode
from vaebench.evaluation.estimators.collapse import shuffled_images
from vaebench.evaluation.estimators.draws import sample
from vaebench.evaluation.estimators.likelihood import no_likelihood
from vaebench.evaluation.estimators.shuffled import shuffled_units
from vaebench.evaluation.protocol import Protocol
from vaebench.evaluation.subject import Images, Subject

TIMED = 8  # images
WORTH = 60.0  # seconds, beyond which it is said


def forecast(model: LatentModel, data: Images, protocol: Protocol) -> str:
    """A sentence on how long the measurements of a protocol take, '' where that is soon.

    It counts the decoder's passes for the likelihood, the units' collapse and the reconstructions, and no others.

    Args:
        model: anything with the three parts.
        data: its images.
        protocol: with the number of images and samples.
    """
    subject = Subject(model, data, protocol.seed, protocol.limit)
    n = len(subject.raw)
    with evaluation_mode(model, subject.device):
        x = subject.raw[:TIMED].to(subject.device, subject.dtype)
        q = subject.model.posterior(x)
        z, units = sample(q, 1), len(shuffled_units(q, subject.spec.dimensions).units)
        subject.model.likelihood(z)
        start = time.perf_counter()
        subject.model.likelihood(z)
        seconds = (time.perf_counter() - start) / len(x)
        scored = no_likelihood(subject.model, x) is None
    counts = {"reconstruction": n, "collapse": (units + 2) * min(n, shuffled_images(units, subject.spec.dimensions))}
    if scored:
        counts["likelihood"] = n * protocol.measurements.get("likelihood", {}).get("k", 0)
    counts = {name: count for name, count in counts.items() if name in protocol.measurements}
    total = seconds * sum(counts.values())
    if total < WORTH:
        return ""
    listed = ", ".join(f"{count:,} for {name}" for name, count in counts.items())
    return (
        f"about {_duration(total)} for {n:,} images, by the decoder's passes alone ({listed}); --limit, --k or a "
        "smaller protocol take less, and what is done is kept if it is interrupted"
    )


def _duration(seconds: float) -> str:
    """A duration in words.

    >>> _duration(90), _duration(7000)
    ('2 minutes', '1.9 hours')
    """
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
