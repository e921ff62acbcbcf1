"""Codes to try estimators on."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def _words(count: int, size: int) -> Tensor:
    """All sequences of `count` codes, (size^count, count)."""
    return torch.tensor(list(itertools.product(range(size), repeat=count)))
