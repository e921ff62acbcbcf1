"""Computations on a GPU that are recorded once, as CUDA graphs, and repeated by one launch each."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from vaebench.core.compiled import layout
from vaebench.errors import UserError

CAPTURE = "VAEBENCH_CAPTURE"  # 1: training steps on a GPU are captured
WARM_UP = 3  # calls before one is recorded: libraries choose their kernels, and optimisers make their state
WAITS = "called a synchronizing CUDA operation"  # torch's warning of a wait for the GPU


def wanted(device: torch.device) -> bool:
    """Whether training steps on a device are to be captured: by `VAEBENCH_CAPTURE`; warns where they cannot.

    Raises:
        UserError: the variable is neither 0 nor 1.
    """
    given = os.environ.get(CAPTURE, "0")
    if given not in ("0", "1"):
        raise UserError(f"{CAPTURE} is '{given}': expected 1, for captured training steps, or 0; set it to one of them")
    if given == "1" and device.type != "cuda":
        warnings.warn(
            f"{CAPTURE} is 1, but steps on a {device.type.upper()} cannot be captured as CUDA graphs", stacklevel=2
        )
    return given == "1" and device.type == "cuda"


class Captured:
    """Repeats a computation on tensors as a CUDA graph, or runs it as it is and says why.

    The first calls run as they are, on a stream of their own, and are ordinary calls: nothing is computed in vain. The
    next one is recorded, and from then on a call copies its arguments to where the recorded ones were, and replays. So
    the computation must be the same at every call with arguments of one layout: it changes tensors in place, and the
    numbers that it reads from Python are constant until `forget`. A computation that waits for the GPU is not recorded.

    Args:
        what: name of the computation, for messages.
        device: the GPU.

    Attributes:
        reason: why it is not captured; None while it is.
        recording: whether a call is being recorded.
        replays: calls so far that were replayed.
    """

    def __init__(self, what: str, device: torch.device) -> None:
        self.what, self.device = what, device
        self.reason: str | None = None
        self.recording, self.replays = False, 0
        self._stream: torch.cuda.Stream | None = None
        self._layouts: list[Any] | None = None
        self._calls: Counter[Hashable] = Counter()
        self._recordings: dict[Hashable, _Recording] = {}

    def __call__(self, function: Callable[..., Any], *arguments: Any, kind: Hashable = None) -> Any:
        """function(*arguments), whose results the next call may overwrite.

        Args:
            function: the same computation at every call.
            arguments: tensors in nested tuples, and constants. With another layout than at the first call, as in an
                epoch's last batch, nothing is captured: a graph has memory of its own, too much for a rare call.
            kind: tells apart what the function does with arguments of one layout.
        """
        if self.reason is not None:
            return function(*arguments)
        layouts = [layout(leaf) for leaf in tree_leaves(arguments)]
        self._layouts = self._layouts or layouts
        if layouts != self._layouts:
            return self.alone(function, *arguments)
        if kind not in self._recordings:
            if self._calls[kind] < WARM_UP:
                self._calls[kind] += 1
                return self.alone(function, *arguments, watched=self._calls[kind] == WARM_UP)
            self._recordings[kind] = self._record(function, arguments)
        self.replays += 1
        return self._recordings[kind].replay(arguments)

    def alone(self, function: Callable[..., Any], *arguments: Any, watched: bool = False) -> Any:
        """Runs a call as it is, on the stream of the recordings, to which autograd's accumulators of gradients belong.

        Args:
            function, arguments: as in a call.
            watched: whether a wait for the GPU ends the capturing.
        """
        if self.reason is not None:
            return function(*arguments)
        self._stream = self._stream or torch.cuda.Stream(self.device)
        others = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(others)
        watching: AbstractContextManager[list[str]] = _waits() if watched else nullcontext([])
        with torch.cuda.stream(self._stream), watching as waits:
            results = function(*arguments)
        others.wait_stream(self._stream)
        if waits:
            self.give_up(f"it waits for the GPU in {waits[0]}")
        return results

    def give_up(self, reason: str) -> None:
        """Captures nothing from now on, and warns why."""
        self.forget()
        self.reason = reason
        warnings.warn(f"{self.what} is not captured as a CUDA graph, and runs without: {reason}", stacklevel=2)

    def forget(self) -> None:
        """Drops the recordings, which are made anew: numbers that they hold have changed."""
        if self._recordings:
            torch.cuda.synchronize(self.device)
            self._recordings.clear()

    def _record(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> _Recording:
        own, graph = tree_map(_copied, arguments), torch.cuda.CUDAGraph()
        self.recording = True
        try:
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                results = function(*own)
        except RuntimeError as error:  # torch's allocator and noise stay in the capture, so that nothing can go on
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise UserError(
                f"{self.what} cannot be captured as a CUDA graph ({reason}): expected operations that do without the "
                f"host; unset {CAPTURE}"
            ) from error
        finally:
            self.recording = False
        return _Recording(graph, _tensors(own), tree_map(_detached, results))


class _Recording(NamedTuple):
    """A graph, the tensors that it reads its arguments from, and those that it writes its results to."""

    graph: torch.cuda.CUDAGraph
    arguments: list[Tensor]
    results: Any

    def replay(self, arguments: tuple[Any, ...]) -> Any:
        torch._foreach_copy_(self.arguments, _tensors(arguments))
        self.graph.replay()
        return self.results


@contextmanager
def _waits() -> Iterator[list[str]]:
    """Yields a list that holds where the block waited for the GPU, once it ends."""
    found: list[str] = []
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for warning in heard:
        if WAITS in str(warning.message):
            found.append(f"{Path(warning.filename).name}:{warning.lineno}")
        elif "debug mode" not in str(warning.message):  # torch's remark on the mode itself
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _copied(leaf: Any) -> Any:
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf
