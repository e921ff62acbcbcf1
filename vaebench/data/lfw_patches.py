"""LFW patches: small photographs that need no download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import numpy as np

from vaebench.data.base import ImageData, Split, carve, shuffled


@final
class LFWPatches(ImageData):
    """Patches of photographs that come with scikit-image: 1 × 25 × 25, 256 grey levels; 160 / 20 / 20.

    100 faces (label 1) and 100 pieces of background (label 0) from Labeled Faces in the Wild, shuffled with a fixed
    seed. The source stores averages of neighbouring 8-bit pixels and channels, as floats in [0, 1]; they are rounded to
    the nearest of 256 levels, so 'discrete256' is a measure of this rounding. Too few images for a serious figure.

    Reference:
        Huang, Mattar, Lee & Learned-Miller 2012, http://vis-www.cs.umass.edu/lfw.

    Args:
        measure: 'discrete256' or 'continuous'.
        batch_size: images per batch and process.
    """

    levels = 256
    measures = ("discrete256", "continuous")

    def __init__(self, measure: str = "discrete256", batch_size: int = 128) -> None:
        super().__init__(measure, batch_size)

    def raw(self) -> Mapping[str, Split]:
        from skimage.data import lfw_subset

        patches = lfw_subset()
        order = shuffled(len(patches))
        levels = np.rint(patches * 255).astype(np.uint8)[order, None]
        return carve(levels, (np.arange(len(patches)) < 100)[order], order, train=-1, val=20, test=20)
