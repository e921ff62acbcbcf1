"""How much memory a training on a data set of 4 GiB takes, above what the imports take.

    python benchmarks/memory.py [FOLDER] [GIB]

The file is made in FOLDER (default: that of temporary files), is sparse, and is deleted at the end. The peak is that of
the process by the operating system, files that are mapped into it included.
"""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

SHAPE = (3, 64, 64)
STEPS = 50


def make(path: Path, gib: float) -> int:
    """Writes a .npy file of images of which every thousandth is noise; all others are a hole in the file, and black."""
    size = int(np.prod(SHAPE))
    n = int(gib * 2**30) // size
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (n, *SHAPE)})
        start = file.tell()
        for at in range(0, n, 1000):
            file.seek(start + at * size)
            file.write(rng.bytes(size))
        file.truncate(start + n * size)
    return n


def peak() -> float:
    """The most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(folder: Path, gib: float) -> None:
    """Makes the file, trains and prints."""
    if (free := shutil.disk_usage(folder).free) < gib * 2**30:
        sys.exit(f"{folder} has {free / 2**30:.1f} GiB left: expected {gib:g}; name another folder")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "large.npy"
        n = make(path, gib)
        print(f"{n:,} images of {' × '.join(map(str, SHAPE))}, {path.stat().st_size / 2**30:.2f} GiB")

        warnings.simplefilter("ignore")  # of black images in two splits
        import vaebench as vb
        from vaebench.training import solo  # noqa: F401  # what `fit` imports

        imports, began = peak(), time.perf_counter()
        vb.fit("vae", "arrays", Path(place) / "runs", latent=8, progress=False,
               data_settings={"path": str(path), "batch_size": 64, "duplicates": "keep"},
               trainer={"max_steps": STEPS, "accelerator": "cpu", "limit_val_batches": 5})  # fmt: skip
        seconds = time.perf_counter() - began
        print(
            f"imports {imports:,.0f} MiB; {STEPS} steps in {seconds:.0f} s; {peak() - imports:,.0f} MiB above imports"
        )


if __name__ == "__main__":
    main(
        Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir()),
        float(sys.argv[2]) if len(sys.argv) > 2 else 4.0,
    )
