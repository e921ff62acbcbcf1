"""What a seed of a training may be."""

from __future__ import annotations

from typing import Any, TypeGuard

LARGEST = 2**32 - 1  # that all of Python's, numpy's and torch's generators take
EXPECTED = f"a whole number from 0 to {LARGEST}"


def is_seed(value: Any) -> TypeGuard[int]:
    """Whether a value is a seed; true and false are none.

    >>> [is_seed(value) for value in (0, 2**32 - 1, 2**32, -1, True, None, 1.0)]
    [True, True, False, False, False, False, False]
    """
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST
