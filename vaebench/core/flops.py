"""FLOPs of a computation by torch's own formulas, and the operations that no formula counts."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


class Flops(NamedTuple):
    """FLOPs of a computation, and the names of the operations in it that may take more and have no formula."""

    total: int
    uncounted: frozenset[str]


class FlopCount(TorchDispatchMode):
    """Counts the FLOPs of a block, those of its backward passes included.

    Counted are products of matrices and convolutions, by the formulas of torch's `FlopCounterMode`, and products with
    vectors, triangular systems, Cholesky factors and eigenvectors, which that one leaves out. What takes a few FLOPs a
    number, such as activations, sums and optimisers, counts nothing, as is the custom. It tracks no modules, which
    fails where a module is given what is differentiated.
    """

    def __init__(self) -> None:
        super().__init__()
        self._total, self._uncounted = 0, set[str]()
        self._whole = set[Any]()  # operations that are made of no others

    @property
    def flops(self) -> Flops:
        """What was counted so far."""
        return Flops(self._total, frozenset(self._uncounted))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        formula = FORMULAS.get(func._overloadpacket)
        if formula is None and func not in self._whole:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
            self._whole.add(func)
            if not _light(func):
                self._uncounted.add(f"{func.namespace}.{func._overloadpacket.__name__}")
        result = func(*args, **kwargs)
        if formula is not None:
            self._total += formula(*args, **kwargs, out_val=result)
        return result


def _light(func: Any) -> bool:
    """Whether an operation takes a few FLOPs for each number that it reads or writes."""
    return bool(
        func.is_view
        or {torch.Tag.pointwise, torch.Tag.reduction} & set(func.tags)
        or func.namespace in ("prims", "profiler")
        or func._overloadpacket.__name__.strip("_") in LIGHT
        or func._overloadpacket.__name__.startswith(("_foreach_", "_fused_"))
    )


def _product(a: Tensor, b: Tensor, **_: Any) -> int:
    return 2 * a.numel() * b.numel() // max(b.shape[0], 1)


def _added_product(_: Tensor, a: Tensor, b: Tensor, **__: Any) -> int:
    return _product(a, b)


def _triangular(a: Tensor, *_: Any, out_val: Tensor, **__: Any) -> int:
    return a.shape[-1] * out_val.numel()


def _cholesky(a: Tensor, *_: Any, **__: Any) -> int:
    return prod(a.shape[:-2]) * a.shape[-1] ** 3 // 3


def _eigenvectors(a: Tensor, *_: Any, **__: Any) -> int:
    return 9 * prod(a.shape[:-2]) * a.shape[-1] ** 3  # Golub & Van Loan, Matrix Computations, section 8.3


FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    aten.mv: _product,
    aten.dot: _product,
    aten.addmv: _added_product,
    aten.linalg_solve_triangular: _triangular,
    aten.linalg_cholesky_ex: _cholesky,
    aten._linalg_eigh: _eigenvectors,
}

LIGHT = frozenset({
    # making, copying and moving numbers
    "arange", "cat", "constant_pad_nd", "convert_element_type", "copy", "detach", "diag_embed", "diagonal_backward",
    "efficientzerotensor", "empty", "empty_like", "empty_strided", "eye", "fill", "flip", "full", "full_like",
    "gather", "index", "has_same_storage_numel", "index_add", "index_copy", "index_fill", "index_put",
    "index_select", "linalg_check_errors", "linspace", "local_scalar_dense", "masked_fill", "masked_select",
    "new_empty", "new_empty_strided", "new_full", "new_ones", "new_zeros", "new_zeros_with_same_feature_meta",
    "nonzero", "one_hot", "ones", "ones_like", "repeat_interleave", "roll", "scalar_tensor", "scatter",
    "scatter_add", "select_backward", "select_scatter", "slice_backward", "slice_scatter", "stack", "to_copy",
    "tril", "tril_indices", "triu", "triu_indices", "unsafe_index", "unsafe_index_put", "unsafe_view", "zeros",
    "zeros_like",
    # random numbers
    "bernoulli", "exponential", "multinomial", "normal", "poisson", "rand", "rand_like", "randint", "randn",
    "randn_like", "randperm", "standard_gamma", "uniform",
    # a pass over the numbers
    "allclose", "argmax", "argmin", "argsort", "bincount", "bucketize", "cummax", "cumprod", "cumsum", "equal",
    "embedding", "embedding_dense_backward", "floor_divide", "is_same_size", "isin", "linalg_vector_norm",
    "log_sigmoid_backward", "log_sigmoid_forward", "log_softmax", "log_softmax_backward_data", "logcumsumexp",
    "logsumexp", "max", "mean", "median", "min", "native_group_norm", "native_group_norm_backward",
    "native_layer_norm", "native_layer_norm_backward", "nll_loss_backward", "nll_loss_forward", "prod",
    "searchsorted", "softmax", "softmax_backward_data", "softplus_backward", "sort", "std", "sum", "topk",
    "unique2", "unique_consecutive", "var", "var_mean",
    # windows of fixed size
    "adaptive_avg_pool2d", "adaptive_avg_pool2d_backward", "avg_pool2d", "avg_pool2d_backward",
    "max_pool2d_with_indices", "max_pool2d_with_indices_backward", "reflection_pad2d", "upsample_bilinear2d",
    "upsample_bilinear2d_backward", "upsample_nearest2d", "upsample_nearest2d_backward",
})  # fmt: skip
"""Names of torch's operations that take a few FLOPs a number and have no tag that says so; torch tags few."""
