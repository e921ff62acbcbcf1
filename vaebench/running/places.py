"""Where a worker process runs: its GPUs, or its cores."""

from __future__ import annotations

import os
import time

from vaebench.errors import UserError

SPARE = 10  # lost workers that are replaced in any case


class Losses:
    """Counts lost workers, of which so many are replaced: SPARE, one a worker, and one more for each worker and hour.

    That is enough for machines that come and go, and too little for what kills every worker.

    Args:
        workers: number of workers at a time.
        remedy: what to do where it is exceeded.
    """

    def __init__(self, workers: int, remedy: str) -> None:
        self.workers, self.remedy, self.lost = workers, remedy, 0
        self._since = time.monotonic()

    def add(self) -> None:
        """Counts one.

        Raises:
            UserError: the budget is exceeded.
        """
        self.lost += 1
        hours = (time.monotonic() - self._since) / 3600
        if self.lost > SPARE + self.workers * (1 + hours):
            raise UserError(f"{self.lost} workers were lost in {hours:.1f} hours: expected them to live; {self.remedy}")


def gpus() -> list[str]:
    """Names of the GPUs this process may use, as CUDA_VISIBLE_DEVICES has them."""
    import torch  # takes seconds, which who only asks for help does not wait

    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return allowed.split(",")[:count] if allowed else [str(index) for index in range(count)]


def one_core(threads: int = 1) -> dict[str, str]:
    """The environment of a worker without a GPU; more threads than cores are ten times slower."""
    return {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
