"""Noise of the members' steps under vmap: each member's own, drawn outside the step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

UNIFORM = {torch.rand, torch.rand_like}
NORMAL = {torch.randn, torch.randn_like}
RANDOM_STATE = threading.Lock()  # torch has one random state for all threads


class Request(NamedTuple):
    """One tensor of noise that a step draws.

    Attributes:
        uniform: U[0, 1) rather than N(0, 1).
        shape: for one member.
        dtype: of its values.
    """

    uniform: bool
    shape: torch.Size
    dtype: torch.dtype


class NoiseRequests(TorchFunctionMode):
    """Lists the noise that a block draws.

    Attributes:
        requests: one a tensor, in their order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in UNIFORM or func in NORMAL:
            self.requests.append(Request(func in UNIFORM, out.shape, out.dtype))
        return out


class NoiseReplay(TorchFunctionMode):
    """Replaces the noise that a block draws by the given tensors, in order.

    Args:
        noise: one tensor per draw.
    """

    def __init__(self, noise: Iterable[Tensor]) -> None:
        super().__init__()
        self.noise: Iterator[Tensor] = iter(noise)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in UNIFORM or func in NORMAL:
            return next(self.noise)
        return func(*args, **(kwargs or {}))


def requested(step: Callable[[], Any]) -> list[Request]:
    """The noise that a step draws; thread-safe, and leaves torch's random state unchanged."""
    with RANDOM_STATE, torch.random.fork_rng(), torch.no_grad(), NoiseRequests() as drawing:
        step()
    return drawing.requests


def drawn(requests: Sequence[Request], generators: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
    """Noise for n members, (n, *shape) each, equal to what each generator gives alone.

    Args:
        requests: of a step, in their order.
        generators: of n members, all on one device.
    """
    out = []
    for uniform, shape, dtype in requests:
        noise = torch.empty((len(generators), *shape), dtype=dtype, device=generators[0].device)
        for one, generator in zip(noise.unbind(0), generators, strict=True):
            one.uniform_(generator=generator) if uniform else one.normal_(generator=generator)
        out.append(noise)
    return tuple(out)
