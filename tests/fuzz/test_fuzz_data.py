"""Files of a data set with anything wrong in them are read, or answered in one sentence that names the file."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_layouts import WRITERS, cifar, idx, mat, noise, omniglot, tar, write_tiny
from fuzz import BUDGET, CONFIGS, Outcome, cases, obeys, run, torn
from hypothesis import strategies as st

from vaebench.data import cache

ARRAYS: list[Any] = [
    np.zeros((0,)), np.zeros((560, 0), np.uint8), np.zeros((784, 5)), np.full((784, 90), np.nan),
    np.full((784, 90), 7.0),
    np.zeros((784, 90), np.int64), np.zeros((560, 60), np.float32), np.array("text"), np.zeros((3, 3, 3)),
    np.zeros((784, 90), complex), np.array(["a", "bc"]), np.zeros((50, 90)), np.zeros((50, 1)), noise(560, 60),
    np.zeros((784, 1)),
]  # fmt: skip
IDX: list[Any] = [noise(0, 28, 28), noise(1, 28, 28), noise(130, 28), noise(130, 1, 28), noise(5), noise(130), noise(0)]


def _cases(folder: Path) -> st.SearchStrategy[tuple[str, bytes]]:
    """One file of a data set's folder, by name, with other content."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    whole = {str(path.relative_to(folder)): path.read_bytes() for path in found}
    inner = {name: gzip.decompress(raw) for name, raw in whole.items() if name.endswith(".gz") and "tar" not in name}
    names = ("ff", "data", "target", "testdata", "testtarget")

    @st.composite
    def one(draw: st.DrawFn) -> tuple[str, bytes]:
        name = draw(st.sampled_from(sorted(whole)))
        if name.endswith(".mat") and draw(st.booleans()):
            sound = {"ff": noise(560, 60), **omniglot()}
            other = {
                draw(st.sampled_from(names)): draw(st.sampled_from(ARRAYS)) for _ in range(draw(st.integers(1, 2)))
            }
            return name, mat(**{**sound, **other})
        if name.endswith("tar.gz") and draw(st.booleans()):
            inside = {f"cifar-10-batches-bin/data_batch_{i}.bin": cifar(12, i) for i in range(draw(st.integers(0, 6)))}
            return name, tar({**inside, "cifar-10-batches-bin/test_batch.bin": draw(torn(cifar(12, 9)))})
        if name in inner and draw(st.booleans()):
            wrong = st.sampled_from([idx(array) for array in IDX]) | torn(inner[name])
            return name, gzip.compress(draw(wrong))
        return name, draw(torn(whole[name]))

    return one()


FILES = sorted(WRITERS.keys() - {"hf", "imagenet", "mpi3d", "shapes3d", "torch"})  # whose readers others have
OWN = {"arrays": ["--data.path=arrays/mine.npz"], "folder": ["--data.root=folder"]}


@pytest.mark.parametrize("name", FILES)
@cases(few=2, many=40)
def test_a_data_set_is_read_or_its_file_named(
    count: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny(tmp_path, monkeypatch, name)
    monkeypatch.setattr(cache, "check_checksum", lambda *_: None)  # so that what is wrong comes to the parser
    sound = {path: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}

    def fit(case: tuple[str, bytes], _: Path) -> Outcome:
        for path, content in sound.items():
            path.write_bytes(content)
        (tmp_path / name / case[0]).write_bytes(case[1])
        family = "vae" if name != "frey_faces" else "beta_vae"
        small = ["--model.latent=2", "--data.batch_size=64", "--trainer.accelerator=cpu"]
        where = [flag.replace("=", f"={tmp_path}/") for flag in OWN.get(name, [])]
        config = f"--config={CONFIGS}/family/{family}.yaml"
        return run("fit", config, f"--data={name}", *where, *small, *BUDGET, "--out=runs")

    obeys(_cases(tmp_path / name), count, fit)
