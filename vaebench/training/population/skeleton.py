"""A model without its own tensors, which a lane supplies."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from torch import Tensor

from vaebench.core import Family


class Skeleton:
    """A model without tensors of its own: `functional_call` for any method, at a tenth of its cost.

    Args:
        model: source of code and constants.
        names: of its parameters and buffers, in the order of the tensors of `of`.
    """

    def __init__(self, model: Family, names: Sequence[str]) -> None:
        self.model = deepcopy(model).to("meta")
        tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        places: dict[int, list[tuple[dict[str, Any], str]]] = {}  # of a tensor: several where modules share it
        for name, tensor in tensors:
            path, _, leaf = name.rpartition(".")
            owner = self.model.get_submodule(path)
            members = owner._parameters if leaf in owner._parameters else owner._buffers
            places.setdefault(id(tensor), []).append((members, leaf))
        known = dict(tensors)
        self._places = [places[id(known[name])] for name in names]

    def of(self, tensors: Sequence[Tensor]) -> Family:
        """The model with these tensors, until it gets others."""
        for places, tensor in zip(self._places, tensors, strict=True):
            for members, leaf in places:
                members[leaf] = tensor
        return self.model
