"""What it costs to measure a model: FLOPs of the estimate of one image's log-likelihood."""

from __future__ import annotations

from vaebench.core import LatentModel
from vaebench.core.flops import FlopCount, Flops
from vaebench.errors import Unavailable
from vaebench.evaluation.conditions import evaluation_mode
from vaebench.evaluation.measurements.likelihood import KINDS, measure
from vaebench.evaluation.metrics import Findings
from vaebench.evaluation.protocol import Protocol
from vaebench.evaluation.subject import Images, Subject

COUNTED = 2  # images, the least of which a standard error can be had
NAME = "likelihood"


def likelihood_flops(model: LatentModel, data: Images, protocol: Protocol) -> Flops:
    """FLOPs of the estimate of one image's log-likelihood as a protocol makes it, with the bound and its two terms.

    All K samples count, and the proposals that are fitted to an image; chains and upper bounds that bracket some of the
    images do not. Some images are measured once more for it.

    Args:
        model: anything with the three parts.
        data: with test images.
        protocol: by which it is evaluated.

    Raises:
        Unavailable: the protocol estimates no likelihood.
    """
    if NAME not in protocol.measurements:
        raise Unavailable("the protocol estimates no likelihood")
    settings = {**protocol.measurements[NAME], "bracket": False, "compile": False}
    subject = Subject(model, data, protocol.seed, COUNTED)
    with evaluation_mode(model, subject.device), FlopCount() as count:
        measure(subject, Findings(KINDS, NAME), **settings)
    total, uncounted = count.flops
    return Flops(round(total / len(subject.raw)), uncounted)
