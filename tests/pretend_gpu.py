"""A pretended cuda:0 that computes on the CPU: tensors say that they are there, and mixing devices raises.

`build` compiles a library that tells torch of the device; a process must load it before torch, by `LD_PRELOAD`. The
device counts what a GPU's stream would wait for: reads of values by the host, copies between the devices, and
operations whose result's shape depends on values. Random numbers are the CPU's, so that results are the CPU's too.
"""

from __future__ import annotations

import hashlib
import linecache
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import pretend_graph
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

CUDA, CPU = torch.device("cuda:0"), torch.device("cpu")
READS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal"}
SIZES = {"aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive",
         "aten::repeat_interleave.Tensor", "aten::bincount"}  # fmt: skip
COPIES = {"aten::_to_copy", "aten::copy_"}
INDEXING = ("aten::index.Tensor", "aten::index_put", "aten::_index_put_impl_", "aten::_unsafe_index")
ROOT = Path(__file__).parents[1] / "vaebench"


def build() -> Path:
    """The library for this torch, compiled in some 12 s at the first call; needs g++."""
    source, home = Path(__file__).with_suffix(".cpp"), Path(torch.__file__).parent
    key = hashlib.sha256(source.read_bytes() + f"{torch.__version__} {home}".encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"vaebench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    built, draft = folder / f"pretend_gpu-{key}.so", folder / f"pretend_gpu-{key}.{os.getpid()}"
    if not built.exists():
        includes = [f"-I{home}/include", f"-I{home}/include/torch/csrc/api/include"]
        libraries = [f"-L{home}/lib", f"-Wl,-rpath,{home}/lib", "-lc10", "-ltorch_cpu"]
        flags = ["-shared", "-fPIC", "-O1", "-std=c++20"]
        subprocess.run(["g++", *flags, *includes, str(source), "-o", str(draft), *libraries], check=True)
        draft.replace(built)
    return built


class MixedDevicesError(RuntimeError):
    """An operation got tensors of both devices, of which the CPU's is no scalar."""


class Far(Tensor):
    """A tensor on the pretended device; `near` has its values."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> Far:
        return Tensor._make_wrapper_subclass(
            cls, near.shape, strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype, device=CUDA
        )

    def __init__(self, near: Tensor) -> None:
        self.near = near

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied: Tensor = Far(self.near.detach().clone())
        if isinstance(self, nn.Parameter):
            copied = nn.Parameter(copied, self.requires_grad)
        memo[id(self)] = copied
        return copied

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Far) -> None:
        self.near = value.near

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Far({self.near})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, None)


class Pretend(TorchDispatchMode):
    """Within it there is the device, and what its stream would wait for is counted.

    Attributes:
        waits: number of each wait: kind, file of the package, function, and line of code.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[tuple[str, str, str, str]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self)

    def wait(self, kind: str) -> None:
        """Counts a wait, at the innermost line of the package."""
        place = _place()
        self.waits[(kind, *place)] += 1
        pretend_graph.waits(kind, place[0], place[2])

    @contextmanager
    def counting(self) -> Iterator[list[list[Any]]]:
        """Yields a list that holds the waits of the block, and how many each, once it ends."""
        found: list[list[Any]] = []
        before = self.waits.copy()
        yield found
        found += [[*where, count] for where, count in sorted((self.waits - before).items())]


def _place() -> tuple[str, str, str]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(ROOT):
            line = linecache.getline(str(file), frame.f_lineno).strip()
            return str(file.relative_to(ROOT)), frame.f_code.co_name, f"{frame.f_lineno}: {line}"
        frame = frame.f_back
    return "elsewhere", "", ""


def _run(func: Any, args: Any, kwargs: dict[str, Any], pretend: Pretend | None) -> Any:
    """An operation on the tensors' values, whose result is on the device that torch would give it."""
    name = func.name()
    if name == "aten::_has_compatible_shallow_copy_type":
        return False  # `Module.to` makes new parameters
    flat, spec = tree_flatten((args, kwargs))
    far = [value for value in flat if isinstance(value, Far)]
    target = next((value for value in flat if isinstance(value, torch.device)), None)
    if not far and (target is None or target.type != "cuda"):
        return func(*args, **kwargs)
    if pretend is not None:
        _count(pretend, name, args, target)
    if name not in COPIES:
        _require_one_device(name, flat, far)
    values = [value.near if isinstance(value, Far) else CPU if _is_far(value) else value for value in flat]
    near_args, near_kwargs = tree_unflatten(values, spec)
    if name == "aten::_efficientzerotensor":
        func = torch.ops.aten.zeros.default  # its lack of memory only torch's own tensors handle
    near_kwargs |= {"pin_memory": False} if "pin_memory" in near_kwargs else {}
    if (graph := pretend_graph.State.graph) is None:
        out = func(*near_args, **near_kwargs)
    else:
        out = graph.compute(func, near_args, near_kwargs, {id(value.near) for value in far})
    if target is not None and target.type != "cuda":
        return out.clone() if any(out is value.near for value in far) else out
    if name == "aten::copy_":
        return args[0]
    known = {id(value.near): value for value in far}  # in-place operations return their argument

    def wrap(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return known[id(value)] if id(value) in known else Far(value)

    return tree_map(wrap, out)


def _is_far(value: Any) -> bool:
    return isinstance(value, torch.device) and value.type == "cuda"


def _count(pretend: Pretend, name: str, args: Any, target: torch.device | None) -> None:
    kind = name.removeprefix("aten::").partition(".")[0]
    if name in READS:
        pretend.wait("read")
    elif name in SIZES:
        pretend.wait(f"size of {kind}")
    elif name == "aten::_to_copy" and target is not None and target.type != "meta":
        if isinstance(args[0], Far) == (target.type == "cuda"):
            return
        pretend.wait("read" if isinstance(args[0], Far) else "copy")
    elif name == "aten::copy_" and isinstance(args[0], Far) != isinstance(args[1], Far):
        pretend.wait("copy" if isinstance(args[0], Far) else "read")
    elif name.startswith(INDEXING):
        indices = [index for index in args[1] if isinstance(index, Tensor)]
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            pretend.wait("size of a mask")
        if any(index.dim() and not isinstance(index, Far) for index in indices):
            pretend.wait("copy")


def _require_one_device(name: str, flat: list[Any], far: list[Far]) -> None:
    """As torch: a 0-dim tensor of the CPU goes with any, and indices may lie there."""
    for value in flat:
        if far and isinstance(value, Tensor) and not isinstance(value, Far) and value.dim():
            if name.startswith(INDEXING) and not value.dtype.is_floating_point:
                continue
            kind, shape = value.dtype, tuple(value.shape)
            raise MixedDevicesError(f"{name} of cuda:0 meets a {kind} of the CPU, {shape}, in {' '.join(_place())}")


class _Generator(torch._C.Generator):
    """The CPU's generator, which says that it is on the device that it was asked for."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        made = super().__new__(cls, "cpu")
        made.said = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:
        return CUDA if self.said.type == "cuda" else CPU


def prepare() -> None:
    """Tells torch of the device; for the rest of the process."""
    torch.cuda._lazy_init = lambda: None
    torch.cuda.default_generators = (torch.default_generator,)
    torch.Generator = _Generator  # type: ignore[misc]
    torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor(…, device=…)` is a copy, as it is on a GPU
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch.inference_mode = lambda mode=True: torch.no_grad() if mode else nullcontext()  # for which there is no `Far`
    torch.cuda.is_available = lambda: _get_current_dispatch_mode() is not None
    torch.cuda.device_count = lambda: int(torch.cuda.is_available())
    torch.cuda.set_device = torch.cuda.empty_cache = lambda *_: None  # type: ignore[assignment]
    torch.cuda.current_device = lambda: 0
    torch.cuda.get_device_capability, torch.cuda.get_device_name = lambda *_: (7, 0), lambda *_: "pretended"
    torch.cuda.get_rng_state = lambda *_: torch.get_rng_state()
    torch.cuda.set_rng_state = lambda state, *_: torch.set_rng_state(state)
    pretend_graph.prepare()
