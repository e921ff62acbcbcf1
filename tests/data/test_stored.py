"""Images that stay in their file give what images in memory give, and need no more memory than a part of them."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import data_layouts as layouts
import h5py
import numpy as np
import pytest
import torch
from processes import FORKED
from safetensors.numpy import save_file

import vaebench as vb
from vaebench.data import _stored, formats
from vaebench.data._batches import DrawnBatches
from vaebench.data._prepare import Preparation
from vaebench.data._stored import Stored
from vaebench.data.arrays import Arrays
from vaebench.data.base import ImageData
from vaebench.data.folder import Folder
from vaebench.errors import UserError
from vaebench.files import PARTIAL, temporary
from vaebench.records import read_record

SPLITS = ("train", "val", "test")
STORED = ("arrays", "celeba", "dsprites", "ffhq", "folder", "hf", "imagenet", "mpi3d", "shapes3d", "torch")
GREY = layouts.noise(40, 5, 6)

Make = Callable[..., ImageData]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEBENCH_DATA", str(tmp_path / "cache"))


def both(make: Make, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[ImageData, ImageData]:
    """A data set in memory and the same in files, both read."""
    made = []
    for gib in ("1", "0"):
        monkeypatch.setenv("VAEBENCH_MEMORY", gib)
        made.append(make(**options))
        assert [isinstance(made[-1]._split(split).images, Stored) for split in SPLITS] == [gib == "0"] * 3
    return made[0], made[1]


def equal(one: Any, other: Any) -> bool:
    """Whether two epochs have equal batches."""
    pairs = list(zip(one, other, strict=True))
    return bool(pairs) and all(torch.equal(x, a) and (y is b is None or torch.equal(y, b)) for (x, y), (a, b) in pairs)


@pytest.mark.parametrize(("name", "measure"), [case for case in layouts.tiny_cases() if case[0] in STORED])
def test_a_file_gives_the_images_noise_orders_and_hashes_of_the_memory(
    name: str, measure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = layouts.write_tiny(tmp_path, monkeypatch, name)
    monkeypatch.setattr(_stored, "PART", 500)  # several parts
    memory, file = both(make, monkeypatch, measure=measure, batch_size=7)
    assert memory.hashes == file.hashes
    assert (memory.sizes, memory.warnings()) == (file.sizes, file.warnings())
    assert torch.equal(memory.spec.mean, file.spec.mean)
    assert torch.equal(memory.spec.examples, file.spec.examples)
    for split in SPLITS:
        whole, index = memory.images(split), torch.tensor([3, 0, 1, 3])
        assert torch.equal(whole, file.images(split))
        assert torch.equal(whole[index], file.some(split, index))
        assert torch.equal(whole[:2], file.first(split, 2))
    memory.seed = file.seed = 5
    loaders = memory.train_dataloader(), file.train_dataloader()
    assert all(equal(*loaders) for _ in range(2))
    streams = [(1, 0), (2, 3)]
    assert equal(*(data.training_batches(9).side_by_side(streams) for data in (memory, file)))
    assert isinstance(file.val_dataloader(), DrawnBatches)
    assert equal(memory.val_dataloader(), file.val_dataloader())
    for rank in range(3):
        for data in (memory, file):
            strategy = SimpleNamespace(root_device=torch.device("cpu"))
            data.trainer = SimpleNamespace(strategy=strategy, global_rank=rank, world_size=3, current_epoch=4)
        assert equal(memory.test_dataloader(), file.test_dataloader())
        assert equal(memory.train_dataloader(), file.train_dataloader())


def compressed_hdf5(path: Path, images: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images, chunks=(7, *images.shape[1:]), compression="gzip")


WRITERS: dict[str, tuple[str, Callable[[Path, Any], Any], bool]] = {
    "npy": ("a.npy", lambda path, x: np.save(path, x), True),
    "npy in Fortran's order": ("a.npy", lambda path, x: np.save(path, np.asfortranarray(x)), False),
    "npz": ("a.npz", lambda path, x: np.savez(path, images=x), True),
    "compressed npz": ("a.npz", lambda path, x: np.savez_compressed(path, images=x), True),
    "HDF5": ("a.h5", lambda path, x: layouts.hdf5(path, images=x), True),
    "HDF5 in chunks": ("a.h5", compressed_hdf5, True),
    "safetensors": ("a.safetensors", lambda path, x: save_file({"images": x}, path, {"made": "here"}), True),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    ("images", "settings"),
    [
        (GREY, {}),
        (GREY.astype(np.int64), {}),
        (GREY.astype(np.float32) / 255, {"range": [0, 1]}),
        (layouts.noise(40, 5, 6, 3), {}),
    ],
)
def test_every_kind_of_file_is_read_where_it_lies(
    kind: str, images: Any, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, write, stays = WRITERS[kind]
    write(tmp_path / name, images)
    hashes = []
    for gib in ("1", "0"):
        monkeypatch.setenv("VAEBENCH_MEMORY", gib)
        data = Arrays(str(tmp_path / name), **settings)
        hashes.append(data.hashes)
    assert hashes[0] == hashes[1]
    assert isinstance(data._split("train").images, Stored) == stays


def test_channels_that_lie_last_lie_first_in_every_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: held-out batches had the file's strides, for which convolutions have kernels that round otherwise."""
    np.save(tmp_path / "a.npy", layouts.noise(40, 5, 6, 3))
    for data in both(lambda: Arrays(str(tmp_path / "a.npy")), monkeypatch):
        assert next(iter(data.val_dataloader()))[0].is_contiguous()


@pytest.fixture
def pngs(tmp_path: Path) -> Path:
    for number in range(30):
        layouts.store(tmp_path / "pngs" / f"{number:02d}.png", layouts.png(layouts.noise(7, 7, 3, seed=number)))
    return tmp_path / "pngs"


def test_pictures_are_decoded_once_for_each_setting_and_state_of_the_folder(
    pngs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAEBENCH_MEMORY", "0")
    counts: list[str] = []
    levels = Preparation.levels
    monkeypatch.setattr(Preparation, "levels", lambda self, *args: counts.append("") or levels(self, *args))

    def read(**settings: Any) -> int:
        before = len(counts)
        assert Folder(str(pngs), **settings).sizes["train"] == 24
        return len(counts) - before

    assert (read(), read()) == (30, 1), "the first says the shape of all"
    assert read(colour="grey") == 30
    layouts.store(pngs / "07.png", layouts.png(layouts.noise(7, 7, 3, seed=99)))
    assert read() == 30
    kept = list((tmp_path / "cache" / "decoded").iterdir())
    assert len(kept) == 3
    for file in kept:
        file.write_bytes(b"cut off")
    assert read() == 30


def test_no_half_of_a_file_stays_where_decoding_fails(
    pngs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAEBENCH_MEMORY", "0")
    layouts.store(pngs / "29.png", layouts.png(layouts.noise(6, 7, 3)))
    with pytest.raises(UserError, match="expected one for all"):
        Folder(str(pngs)).sizes  # noqa: B018
    assert not list((tmp_path / "cache" / "decoded").iterdir())


def test_what_killed_processes_left_goes_with_the_next_and_what_others_write_stays(
    pngs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect: the unfinished file of a killed process stayed for good, of as many GiB as it had."""
    monkeypatch.setenv("VAEBENCH_MEMORY", "0")
    folder = tmp_path / "cache" / "decoded"
    dead = layouts.store(folder / f".of-other-settings.npy.{'0' * 32}{PARTIAL}", b"half")
    with temporary(folder / "alive.npy") as alive:
        assert Folder(str(pngs)).sizes["train"] == 24
        assert not dead.exists()
        assert Path(alive.name).exists()
    (kept,) = folder.iterdir()
    assert kept.suffix == ".npy"


def test_batch_files_are_read_a_part_at_a_time_and_a_damaged_one_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect: the ten files of ImageNet-64 were joined in memory, 16 GB twice."""
    make = layouts.write_tiny(tmp_path, monkeypatch, "imagenet")
    monkeypatch.setenv("VAEBENCH_MEMORY", "0")
    monkeypatch.setattr(formats, "PART", 3 * 3072)
    _, rows = formats.npz_rows(tmp_path / "imagenet32" / "val_data.npz", "data")
    assert [len(part) for part in rows] == [3, 3, 2]
    seventh = tmp_path / "imagenet32" / "train_data_batch_7.npz"
    content = bytearray(seventh.read_bytes())
    content[10_000] ^= 1  # of the images
    seventh.write_bytes(content)
    with pytest.raises(UserError, match=r"batch_7\.npz' is no intact") as error:
        make().sizes  # noqa: B018
    assert layouts.one_sentence(str(error.value))
    assert not list((tmp_path / "decoded").iterdir())


@pytest.mark.parametrize("given", ["much", "-1", "nan"])
def test_a_memory_that_is_no_number_is_refused(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", GREY)
    monkeypatch.setenv("VAEBENCH_MEMORY", given)
    with pytest.raises(UserError, match=f"VAEBENCH_MEMORY is '{given}': expected a number of GiB") as error:
        Arrays(str(tmp_path / "a.npy")).sizes  # noqa: B018
    assert layouts.one_sentence(str(error.value))


def test_a_disk_without_room_is_one_sentence(pngs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEBENCH_MEMORY", "0")
    layouts.store(tmp_path / "cache" / "decoded", b"a file where a folder is needed")
    with pytest.raises(UserError, match="cannot be kept in") as error:
        Folder(str(pngs)).sizes  # noqa: B018
    assert layouts.one_sentence(str(error.value))


@pytest.mark.parametrize("measure", ["discrete256", "binary", "continuous"])
def test_a_training_and_its_record_are_those_of_the_memory(
    measure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "mine.npy", layouts.noise(300, 6, 6, 3))
    records, weights = [], []
    prior = {"class_path": "VampPrior", "init_args": {"components": 20}}
    likelihood = {"discrete256": "DiscretisedLogistic", "binary": "Bernoulli", "continuous": "Beta"}[measure]
    for gib in ("1", "0"):
        monkeypatch.setenv("VAEBENCH_MEMORY", gib)
        path = vb.fit("vae", "arrays", tmp_path / gib, data_settings={"path": str(tmp_path / "mine.npy"),
                      "measure": measure, "batch_size": 32}, trainer={"max_epochs": 2, "accelerator": "cpu"},
                      progress=False, latent=2, likelihood=likelihood, prior=prior)  # fmt: skip
        weights.append(vb.load(path).state_dict())
        place = vb.evaluate_checkpoint(path, "quick", tmp_path / f"results-{gib}", progress=False, k=4, limit=20).path
        assert place is not None
        records.append(read_record(place))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    one, other = records
    assert (one.id, one.data, one.metrics, one.curves) == (other.id, other.data, other.metrics, other.curves)


IMAGES, SIDE = 24_000, 32  # of 3 × 32 × 32 bytes: 70 MiB


def growth(paths: list[str], gib: str, found: Any) -> None:
    """Sends how many bytes the process grows by while the second of two data sets is used as the first was before."""
    os.environ["VAEBENCH_MEMORY"] = gib
    peaks = []
    for path in paths:
        data = Arrays(path, "binary", batch_size=64)
        data.seed = 0
        assert len(data.hashes) == 3
        assert not data.warnings()
        seen = sum(len(x) for loader in (data.train_dataloader(), data.val_dataloader()) for x, _ in loader)
        assert seen == 0.9 * (data.spec.size or 0) / 0.8
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    found.put(peaks[1] - peaks[0])


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A data set of 70 MiB after one of a few images."""
    folder, images = tmp_path_factory.mktemp("large"), layouts.noise(24_000, 3, 32, 32)
    np.save(folder / "few.npy", images[:1000])
    np.save(folder / "all.npy", images)
    return [str(folder / "few.npy"), str(folder / "all.npy")]


def test_no_more_than_a_part_of_a_large_data_set_is_in_memory(large: list[str]) -> None:
    """Defect: whole splits became tensors, levels and floats, which took three times the size of the data set."""
    queue = FORKED.Queue()
    process = FORKED.Process(target=growth, args=(large, "0", queue))
    process.start()
    assert queue.get(timeout=120) < Path(large[1]).stat().st_size
    process.join()
