"""Adam for stacked members, each with its own options and step count."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vaebench.core.rules import Rules
from vaebench.errors import UserError

OPTIMIZERS = (torch.optim.Adam, torch.optim.AdamW)  # with every option besides those below
UNTAKEN = ("amsgrad", "maximize")
TINY = 1e-8


class Adam:
    """`torch.optim.Adam` or `AdamW` for n members at once; inactive members keep their moments and step count.

    On a CPU each member uses torch's fused kernel on its own rows, in one pass over memory; on a GPU, where launches
    dominate, a few operations update all members together.

    Args:
        parameters: of one group, (n, *shape) each; updated in place.
        means, squares: first and second moments, of the same shapes; updated in place.
        taken: steps taken, (n,) float32; updated in place.
        options: of each member, by torch's names; see `Rules.options`.
    """

    def __init__(
        self,
        parameters: list[Tensor],
        means: list[Tensor],
        squares: list[Tensor],
        taken: Tensor,
        options: Sequence[Mapping[str, Any]],
    ) -> None:
        self.parameters, self.means, self.squares, self.taken = parameters, means, squares, taken
        columns = [zip(*(t.detach().unbind(0) for t in stack), strict=True) for stack in (parameters, means, squares)]
        self._rows = [[list(row) for row in rows] for rows in zip(*columns, strict=True)]
        self._counts = [[count] * len(parameters) for count in taken.unbind(0)]
        self._columns: dict[str, Tensor] = {}
        self.set(options)

    def set(self, options: Sequence[Mapping[str, Any]]) -> None:
        """Sets the options of each member from the next step on."""
        self._kernels = [
            torch._fused_adamw_ if own["decoupled_weight_decay"] else torch._fused_adam_ for own in options
        ]
        self._options = [{"lr": own["lr"], "beta1": own["betas"][0], "beta2": own["betas"][1], "eps": own["eps"],
                          "weight_decay": own["weight_decay"]} for own in options]  # fmt: skip
        self._decays = any(own["weight_decay"] for own in options)
        columns = {"lr": [own["lr"] for own in options], "eps": [own["eps"] for own in options]}
        for index, betas in enumerate(zip(*(own["betas"] for own in options), strict=True)):
            columns[f"gain{index}"] = [1 - beta for beta in betas]
            columns[f"log{index}"] = [math.log(max(beta, 1e-30)) for beta in betas]
        for name, decoupled in (("coupled", False), ("decoupled", True)):
            columns[name] = [own["weight_decay"] * (own["decoupled_weight_decay"] == decoupled) for own in options]
        for name, values in columns.items():
            self._put(name, values)

    def _put(self, name: str, values: list[float]) -> None:
        """Sets one number per member, (n,), where captured steps read it."""
        p = self.parameters[0]
        column = self._columns.setdefault(name, torch.empty(len(values), dtype=p.dtype, device=p.device))
        column.copy_(torch.tensor(values, dtype=p.dtype))

    def step(self, gradients: list[Tensor], learning: Tensor | None = None) -> None:
        """One step of each member.

        Args:
            gradients: of the parameters, in their order and shapes.
            learning: active members, (n,) booleans; None: all.
        """
        self.taken.add_(1 if learning is None else learning.to(self.taken.dtype))
        if self.taken.device.type == "cpu":
            self._each(gradients, [True] * len(self._options) if learning is None else learning.tolist())
        else:
            self._together(gradients, learning)

    def _each(self, gradients: list[Tensor], learning: list[bool]) -> None:
        rows = zip(*(gradient.contiguous().unbind(0) for gradient in gradients), strict=True)
        members = zip(rows, self._rows, self._counts, self._kernels, self._options, learning, strict=True)
        for own, (p, m, v), count, kernel, options, learns in members:
            if learns:
                kernel(p, list(own), m, v, [], count, **options, amsgrad=False, maximize=False)

    def _together(self, gradients: list[Tensor], learning: Tensor | None) -> None:
        column = self._columns
        taken = self.taken.to(column["lr"].dtype)
        learns = torch.ones_like(taken) if learning is None else learning.to(taken.dtype)
        corrections = [-torch.expm1(taken * column[log]) for log in ("log0", "log1")]  # 1 - beta**taken, also near 0
        rate = learns * column["lr"] / corrections[0].clamp(min=TINY)  # avoids 0 / 0 before the first step
        root = corrections[1].sqrt().clamp(min=TINY)
        gain1, gain2 = (learns * column[gain] for gain in ("gain0", "gain1"))
        shrunk = 1 - learns * column["lr"] * column["decoupled"]
        for p, g, m, v in zip(self.parameters, gradients, self.means, self.squares, strict=True):
            row = (-1, *[1] * (p.dim() - 1))
            if self._decays:
                g = g + p * column["coupled"].view(row)
                p.mul_(shrunk.view(row))
            m.lerp_(g, gain1.view(row))
            v.lerp_(g.square(), gain2.view(row))
            p.sub_(m.div(v.sqrt().div_(root.view(row)).add_(column["eps"].view(row))).mul_(rate.view(row)))


def require_adam(rules: Mapping[str, Rules]) -> None:
    """Refuses groups whose optimiser is not one of `OPTIMIZERS`, or has an unsupported option.

    Raises:
        UserError: there is one.
    """
    for group, own in rules.items():
        options, name = own.options(0), own.kind.__name__
        if own.kind not in OPTIMIZERS:
            raise _refused(group, f"the optimizer {name}", " or ".join(cls.__name__ for cls in OPTIMIZERS))
        for option in UNTAKEN:
            if options[option]:
                raise _refused(group, f"optimizer.{option} {options[option]!r}", f"{name} without it")


def _refused(group: str, what: str, expected: str) -> UserError:
    return UserError(
        f"a population cannot train the parameter group '{group}' with {what}: expected {expected}; remove it, or run "
        "it by itself with `vaebench fit`"
    )


def clip(gradients: list[Tensor], largest: Tensor) -> None:
    """Clips the gradients of each member in place to a total norm of `largest`, (n,).

    Equals `torch.nn.utils.clip_grad_norm_` for each member.
    """
    norm = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)
    for g in gradients:
        g.mul_(factor.view(-1, *[1] * (g.dim() - 1)))
