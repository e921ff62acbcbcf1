"""Functions of tensors, compiled for the shapes of their first call."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves


class Compiled:
    """Compiles a function at its first call, or warns and runs it uncompiled where that fails.

    It compiles a graph of the operations of that call, so the function must be pure and its control flow depend on
    shapes alone. Calls with other shapes, strides, types or devices run uncompiled. Threads may share an instance after
    its first call, during which no other thread may compute: torch's tracer changes `nn.Module` for all.

    Args:
        what: name of the function, for the warning.
        options: of torch's compiler.
    """

    def __init__(self, what: str, **options: Any) -> None:
        self.what, self.options = what, options
        self._fast: Callable[..., Any] | None = None
        self._layouts: list[Any] | None = None

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(*arguments), for tensors in nested lists, tuples and dictionaries.

        Args:
            function: the same computation at every call.
            arguments: those of the first call determine the compiled layout.
        """
        layouts = [layout(leaf) for leaf in tree_leaves(arguments)]
        if self._layouts is None:
            self._layouts = layouts
            return self._compile(function, arguments)
        if self._fast is None or self._layouts != layouts:
            return function(*arguments)
        return self._fast(*arguments)

    def _compile(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        try:  # a compiler can fail in any way, and the result is right without it
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's remarks on its own code
                graph = make_fx(lambda *given: function(*given))(*arguments)
                # Layouts are compared above, so torch need not guard every call.
                options = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe, **self.options}
                fast = torch.compile(graph, dynamic=False, options=options)
                result = fast(*arguments)
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            warnings.warn(f"{self.what} could not be compiled and runs uncompiled, slower: {reason}", stacklevel=4)
            return function(*arguments)
        self._fast = fast
        return result


def layout(leaf: Any) -> Any:
    """What a graph is valid for: the properties of a tensor, or another value itself."""
    return (leaf.shape, leaf.stride(), leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else leaf
