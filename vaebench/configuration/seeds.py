"""Valid seeds of a training."""

from __future__ import annotations

from typing import Any, TypeGuard

LARGEST = 2**32 - 1  # supported by the generators of Python, numpy and torch
EXPECTED = f"a whole number from 0 to {LARGEST}"


def is_seed(value: Any) -> TypeGuard[int]:
    """Whether a value is a valid seed; booleans are not.

    >>> [is_seed(value) for value in (0, 2**32 - 1, 2**32, -1, True, None, 1.0)]
    [True, True, False, False, False, False, False]
    """
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST
