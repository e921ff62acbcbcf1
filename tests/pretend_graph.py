"""Pretended CUDA graphs of the pretended device: what a capture records, `replay` computes again on the same memory.

As torch's: a capture computes nothing, so that afterwards all memory is as it was before, and what was made in it holds
no numbers; the host may not wait within it; tensors of the CPU and Python's numbers are constants of the graph; and
noise comes from generators that the graph knows, as it comes to steps outside of graphs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

MODES = {"default": 0, "warn": 1}


class State:
    """What torch knows: the graph that captures, how waits are told, and the stream of the block."""

    graph: CUDAGraph | None = None
    waits = 0
    stream: Stream


class CUDAGraph:
    """A list of operations on the values of the device's tensors."""

    def __init__(self) -> None:
        self.operations: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.generators = {id(torch.default_generator): torch.default_generator}
        self._before: dict[int, tuple[Tensor, Tensor]] = {}  # by storage: its bytes, and what they were
        self._made: set[int] = set()

    def register_generator_state(self, generator: torch.Generator) -> None:
        self.generators[id(generator)] = generator

    def compute(self, func: Any, args: Any, kwargs: Any, far: set[int]) -> Any:
        """Records an operation and computes it.

        Args:
            func: of aten.
            args, kwargs: its arguments, by their values.
            far: ids of values that are on the device; others are read once, as a launch reads its arguments.
        """
        flat, spec = tree_flatten((args, kwargs))
        for value in flat:
            if isinstance(value, torch.Generator) and id(value) not in self.generators:
                raise RuntimeError("a generator that the graph does not know draws noise in a capture")
        flat = [value.clone() if isinstance(value, Tensor) and id(value) not in far else value for value in flat]
        args, kwargs = tree_unflatten(flat, spec)
        named = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
        written = [leaf for argument in func._schema.arguments if argument.alias_info and argument.alias_info.is_write
                   for leaf in tree_leaves(named.get(argument.name)) if isinstance(leaf, Tensor)]  # fmt: skip
        for value in written:
            key = _storage(value)
            if key not in self._before and key not in self._made:
                whole = torch.empty(0, dtype=torch.uint8).set_(value.untyped_storage())
                self._before[key] = whole, whole.clone()
        out = func(*args, **kwargs)
        known = {_storage(value) for value in flat if isinstance(value, Tensor)}
        made = [value for value in tree_leaves(out) if isinstance(value, Tensor) and _storage(value) not in known]
        self._made |= {_storage(value) for value in made}
        if made or written:
            self.operations.append((func, args, kwargs, made))
        return out

    def begin(self) -> None:
        self._noise = [(one, one.get_state()) for one in self.generators.values()]

    def end(self) -> None:
        """Takes back what the capture computed."""
        for whole, before in self._before.values():
            whole.copy_(before)
        for generator, state in self._noise:
            generator.set_state(state)
        for *_, made in self.operations:
            for value in made:
                if value.is_floating_point() and value.numel():
                    value.fill_(torch.nan)

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, made in self.operations:
                out = func(*args, **kwargs)
                again = [value for value in tree_leaves(out) if isinstance(value, Tensor)]
                if made:
                    for value, new in zip(made, again, strict=True):
                        value.copy_(new)


class Stream:
    """A stream, on which everything happens at once."""

    def __init__(self, device: Any = None) -> None:
        self.device = device

    def wait_stream(self, other: Stream) -> None:
        assert isinstance(other, Stream)

    def is_capturing(self) -> bool:
        return State.graph is not None


State.stream = Stream()


@contextmanager
def _on(stream: Stream) -> Iterator[None]:
    before, State.stream = State.stream, stream
    try:
        yield
    finally:
        State.stream = before


@contextmanager
def _graph(graph: CUDAGraph, *, stream: Stream, capture_error_mode: str) -> Iterator[None]:
    assert capture_error_mode == "thread_local"  # other threads read images ahead
    assert State.graph is None
    State.graph = graph
    graph.begin()
    try:
        with _on(stream):
            yield
    finally:
        State.graph = None
        graph.end()


def _set_mode(mode: Any) -> None:
    State.waits = MODES.get(mode, mode)


def waits(kind: str, file: str, line: str) -> None:
    """The host waits for the device: an error in a capture, and a warning where torch is to warn.

    Raises:
        RuntimeError: a graph is captured.
    """
    if State.graph is not None:
        raise RuntimeError(f"operation not permitted when stream is capturing: {kind} in {file}:{line}")
    if State.waits:
        number = int(line.partition(":")[0] or 0)
        warnings.warn_explicit("called a synchronizing CUDA operation", UserWarning, file, number)


def prepare() -> None:
    """Gives torch the pretended graphs; for the rest of the process."""
    torch.cuda.CUDAGraph, torch.cuda.graph, torch.cuda.Stream = CUDAGraph, _graph, Stream  # type: ignore[misc, assignment]
    torch.cuda.stream = _on  # type: ignore[assignment]
    torch.cuda.current_stream = torch.accelerator.current_stream = lambda *_: State.stream  # type: ignore[assignment, return-value]
    torch.cuda.get_sync_debug_mode, torch.cuda.set_sync_debug_mode = lambda: State.waits, _set_mode
    torch.cuda.synchronize = lambda *_: None  # type: ignore[assignment]


def _storage(value: Tensor) -> int:
    return value.untyped_storage()._cdata
