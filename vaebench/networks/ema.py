"""Moving averages of a model's weights, as buffers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Averages(nn.Module):
    """θ̄ ← d θ̄ + (1 − d) θ for every parameter θ of a model, with d = min(decay, (1 + t)/(10 + t)).

    Polyak & Juditsky 1992 (https://doi.org/10.1137/0330046), with the warm-up of TensorFlow's moving averages.

    Args:
        model: with all parameters to average already defined.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for name, parameter in model.named_parameters():
            self.register_buffer(name.replace(".", "/"), parameter.detach().clone())  # a buffer's name has no dots

    def weights(self) -> dict[str, Tensor]:
        """The averages by name of parameter."""
        return {name.replace("/", "."): value for name, value in self.named_buffers(recurse=False)}

    def moved(self, parameters: Mapping[str, Tensor], decay: Tensor, t: Tensor, prefix: str) -> dict[str, Tensor]:
        """The averages after adding the weights at the start of step t, by full buffer name, for `Step.state`.

        Args:
            parameters: by name, before the optimiser's update.
            decay: d in [0, 1).
            t: the step, from 0.
            prefix: name of this module in the model.
        """
        d = torch.minimum(decay, (1 + t) / (10 + t))
        now = self.weights()
        return {
            f"{prefix}.{name.replace('.', '/')}": d * now[name] + (1 - d) * parameters[name].detach() for name in now
        }
