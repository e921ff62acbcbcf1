"""Runs whose pictures are grids of known images, as the evaluation draws them, to ask people about; and a server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fake_records import fake_arrays, fake_body

from vaebench.evaluation.pictures import _grid, reconstruction_grid
from vaebench.judging.serve import _socket, server
from vaebench.records import write_record

RUNS = ("vae_a", "vae_b", "vae_c")


def write_judged(results: Path) -> Path:
    """Three runs on grey 8 × 8 images, each with 80 samples, the first 40 of which are its reconstructions."""
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for seed, name in enumerate(RUNS):
        made = torch.rand(80, 1, 8, 8, generator=torch.Generator().manual_seed(1 + seed))
        pictures = {"samples": _grid(list(made.split(10))), "reconstructions": reconstruction_grid(x, made[:40])}
        arrays = fake_arrays(np.random.default_rng(seed), mean=float(seed))
        body = fake_body(arrays, variant=name)
        body["data"] = {**body["data"], "measure": "discrete256"}
        write_record(results / name, body, arrays, pictures)
    return results


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The host and port of an application that is served on this machine until the end of the block."""
    with _socket("127.0.0.1", 0) as listening:
        running = server(app)
        thread = threading.Thread(target=running.run, args=([listening],))
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join()
