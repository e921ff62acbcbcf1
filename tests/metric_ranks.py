"""Two processes that share the images of every case over gloo, and train the page's VAE together.

Run it with the folder to write to: what each finds, and the weights.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

SHARES = (slice(0, 7), slice(7, None))


def main(folder: Path) -> None:
    """Forks once all is imported: two processes for the price of one."""
    torch.set_num_threads(1)
    from metric_cases import CASES
    from plain_vae import trained

    other = os.fork()
    rank = 0 if other else 1
    distributed.init_process_group(
        "gloo", f"file://{folder}/meeting", rank=rank, world_size=2, timeout=timedelta(seconds=120)
    )
    os.environ["LOCAL_RANK"] = str(rank)  # as a launcher tells Lightning
    found: dict[str, Any] = {}
    for name, case in CASES.items():
        metric = case.metric()
        for first in range(0, case.n, 5):
            share = range(case.n)[SHARES[rank]][first : first + 5]
            if share:
                case.update(metric, slice(share[0], share[-1] + 1))
        found[name] = [metric.compute().flatten().tolist(), metric.standard_error.flatten().tolist()]
    model, logged = trained(processes=2)
    if rank == 0:
        torch.save(model.state_dict(), folder / "weights.pt")
    plain = {"logged": logged, "error": float(model.log_likelihood.standard_error)}
    (folder / f"rank-{rank}.json").write_text(json.dumps({"cases": found, "plain": plain}))
    distributed.destroy_process_group()
    if other:
        _, status = os.waitpid(other, 0)
        sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
