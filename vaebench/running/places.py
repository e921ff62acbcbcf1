"""Where a worker process runs: its GPUs, or its cores."""

from __future__ import annotations

import os

SPARE = 10  # starts beyond one per worker, which limits replacements of killed workers


def gpus() -> list[str]:
    """Names of the GPUs this process may use, as CUDA_VISIBLE_DEVICES has them."""
    import torch  # takes seconds, which who only asks for help does not wait

    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return allowed.split(",")[:count] if allowed else [str(index) for index in range(count)]


def one_core(threads: int = 1) -> dict[str, str]:
    """The environment of a worker without a GPU; more threads than cores are ten times slower."""
    return {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
