"""Which precision is the faster on a device, measured for a second."""

from __future__ import annotations

import time
from statistics import median
from typing import NamedTuple

from vaebench.core import LatentModel
from vaebench.evaluation.conditions import device_and_dtype, evaluation_mode, for_images
from vaebench.evaluation.estimators.draws import sample
from vaebench.evaluation.estimators.scoring import Precision, scorer
from vaebench.evaluation.images import Stack

SAMPLES, IMAGES = 64, 8  # scored at once
SECONDS = 1.0
WORTH = 1.2  # bf16 errs, and is taken only where it is so much faster


class Speed(NamedTuple):
    """What was measured.

    Attributes:
        bf16: how many times as fast as f32 it is.
    """

    bf16: float

    @property
    def taken(self) -> Precision:
        """The precision that is worth taking."""
        return "bf16" if self.bf16 > WORTH else "f32"

    def __str__(self) -> str:
        if self.bf16 >= 1:
            return f"bf16 scores samples {self.bf16:.1f} times as fast as f32 on this device"
        return f"bf16 scores samples {1 / self.bf16:.1f} times slower than f32 on this device"


def measure_speed(model: LatentModel, x: Stack, seconds: float = SECONDS) -> Speed:
    """Times the likelihood of a model in f32 and in bf16, in turns.

    Args:
        model: anything with the three parts, in single precision.
        x: images, (n, *data), of which a few are used.
        seconds: spent on it, after one call of each.

    Raises:
        UserError: an operation that torch lacks for bf16 on the device.
    """
    device, dtype = device_and_dtype(model, x)
    with evaluation_mode(model, device):
        one, images = for_images(model, slice(0, IMAGES)), x[:IMAGES].to(device, dtype)
        z = sample(one.posterior(images), SAMPLES)
        scores = [scorer(one, precision) for precision in ("f32", "bf16")]
        ratios, end = list[float](), 0.0
        while not ratios or time.perf_counter() < end:
            took = []
            for score in scores:
                start = time.perf_counter()
                float(score(z, images).sum())  # waits for the device
                took.append(time.perf_counter() - start)
            if end:
                ratios.append(took[0] / took[1])
            else:  # the first calls are slower
                end = time.perf_counter() + seconds
        return Speed(median(ratios))
