"""Small files in the layouts of the published data sets, and where the real ones lie."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image
from torch.utils.data import Dataset

from vaebench.configuration.discovery import find_class, names

Patch = pytest.MonkeyPatch

REAL = Path(os.environ.get("VAEBENCH_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
"""Published data sets, each in a folder of its name; tests read whatever is there in addition to the small files."""


def noise(*shape: int, top: int = 256, seed: int = 0) -> Any:
    return np.random.RandomState(seed).randint(0, top, shape).astype(np.uint8)


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def one_sentence(text: str) -> bool:
    """Whether a message is one sentence that ends in what to do."""
    return "\n" not in text and ". " not in text and not text.endswith(".") and "; " in text


def store(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def idx(array: Any) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


def amat(bits: Any) -> bytes:
    return "".join(" ".join(map(str, row)) + "\n" for row in bits).encode()


def mat(**variables: Any) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, variables, do_compression=True)
    return buffer.getvalue()


def cifar(n: int, seed: int) -> bytes:
    return np.concatenate([noise(n, 1, top=10, seed=seed), noise(n, 3072, seed=seed)], 1).tobytes()


def tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def omniglot(train: int = 90, test: int = 30) -> dict[str, Any]:
    """The variables of chardata.mat: one image a column with its columns first, and one-hot alphabets."""
    hot = np.eye(50, dtype=np.uint8)
    return {
        "data": noise(784, train) / 255.0,
        "testdata": noise(784, test, seed=1) / 255.0,
        "target": hot[:, noise(train, top=50)],
        "testtarget": hot[:, noise(test, top=50, seed=1)],
    }


def _idx_files(folder: Path, patch: Patch, cls: Any) -> None:
    arrays = [noise(130, 28, 28), noise(130, top=10), noise(40, 28, 28, seed=1), noise(40, top=10, seed=1)]
    files = []
    for file, array in zip(cls.files, arrays, strict=True):
        store(folder / f"{file.name}.gz", gzip.compress(idx(array)))
        files.append(replace(file, checksum=sha256(idx(array))))
    patch.setattr(cls, "files", tuple(files))
    patch.setattr(cls, "validation", 30)


def _amat_files(folder: Path, patch: Patch, cls: Any) -> None:
    files = {}
    for seed, (split, file) in enumerate(cls.files.items()):
        content = amat(noise(70 if split == "train" else 20, 784, top=2, seed=seed))
        store(folder / file.name, content)
        files[split] = replace(file, checksum=sha256(content))
    patch.setattr(cls, "files", files)


def _frey_file(folder: Path, patch: Patch, cls: Any) -> None:
    frames = noise(60, 560)
    store(folder / cls.file.name, mat(ff=frames.T))
    patch.setattr(cls, "checksum", sha256(frames.tobytes()))
    patch.setattr(cls, "held_out", 10)


def _omniglot_file(folder: Path, patch: Patch, cls: Any) -> None:
    content = mat(**omniglot())
    store(folder / cls.file.name, content)
    patch.setattr(cls, "file", replace(cls.file, checksum=sha256(content)))
    patch.setattr(cls, "validation", 20)


def _cifar_files(folder: Path, patch: Patch, cls: Any) -> None:
    members = {name: cifar(12, seed) for seed, name in enumerate(cls.checksums)}
    inside = {f"cifar-10-batches-bin/{name}": content for name, content in members.items()}
    store(folder / cls.file.name, tar(inside))
    store(folder.with_name("cifar10_subset") / "cifar-10-binary-subset.tar.gz", tar(inside))
    patch.setattr(cls, "checksums", {name: sha256(content) for name, content in members.items()})


def _dsprites_file(folder: Path, patch: Patch, cls: Any) -> None:
    """The keys of the published file, with the one that numpy can read by pickle alone."""
    patch.setattr(cls, "FACTORS", {"shape": 3, "scale": 2, "orientation": 4, "x": 4, "y": 4})
    folder.mkdir(parents=True)
    np.savez(
        folder / cls.file,
        imgs=noise(384, 8, 8, top=2),
        latents_classes=np.zeros((384, 6), np.int64),
        metadata=np.array({"author": "somebody"}, dtype=object),
    )


def _mpi3d_file(folder: Path, patch: Patch, cls: Any) -> None:
    sizes = {"colour": 2, "shape": 2, "size": 2, "camera": 3, "background": 2, "horizontal": 2, "vertical": 2}
    patch.setattr(cls, "FACTORS", sizes)
    folder.mkdir(parents=True)
    np.savez(folder / "mpi3d_real.npz", images=noise(192, 8, 8, 3))


def hdf5(path: Path, **arrays: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def _shapes3d_file(folder: Path, patch: Patch, cls: Any) -> None:
    sizes = {"floor_hue": 2, "wall_hue": 2, "object_hue": 2, "scale": 4, "shape": 4, "orientation": 2}
    patch.setattr(cls, "FACTORS", sizes)
    hdf5(folder / cls.file, images=noise(256, 8, 8, 3), labels=np.zeros((256, 6)))


def _cars3d_files(folder: Path, patch: Patch, cls: Any) -> None:
    patch.setattr(cls, "FACTORS", {"object": 5, "azimuth": 6, "elevation": 4})
    for number in range(5):
        store(folder / "cars" / f"car_{number:03d}_mesh.mat", mat(im=noise(128, 128, 3, 6, 4, seed=number)))


def matrix(array: Any) -> bytes:
    """LeCun's binary matrices: a magic number, the number of dimensions, at least three sizes, the values."""
    magic = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54}[str(array.dtype)]
    sizes = (*array.shape, 1, 1)[: max(3, array.ndim)]
    return np.array([magic, array.ndim, *sizes], "<u4").tobytes() + array.tobytes()


def _norb_files(folder: Path, _: Patch, cls: Any) -> None:
    for seed, (split, name) in enumerate(cls.files.items()):
        n = 80 if split == "train" else 30
        info = np.column_stack([noise(n, top=top, seed=seed) for top in (10, 9, 18, 6)]).astype(np.int32)
        info[:, 2] *= 2
        parts = {"dat": noise(n, 2, 96, 96, seed=seed), "cat": noise(n, top=5).astype(np.int32), "info": info}
        for what, array in parts.items():
            content = matrix(array)
            packed = what != "cat"
            store(folder / f"{name}-{what}.mat{'.gz' * packed}", gzip.compress(content, 1) if packed else content)


def png(pixels: Any, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def _svhn_files(folder: Path, _: Patch, cls: Any) -> None:
    for n, name in zip((60, 20), cls.files.values(), strict=True):
        store(folder / name, mat(X=noise(32, 32, 3, n, seed=n), y=noise(n, 1, top=10) + 1))


def _celeba_files(folder: Path, *_: Any) -> None:
    names = [f"{number:06d}.jpg" for number in range(1, 61)]
    parts = [0] * 40 + [1] * 10 + [2] * 10
    for number, name in enumerate(names):
        store(folder / "img_align_celeba" / name, png(noise(218, 178, 3, seed=number), "JPEG"))
    lines = [f"{name} {part}" for name, part in zip(names, parts, strict=True)]
    store(folder / "list_eval_partition.txt", "\n".join(lines).encode())
    rows = [f"{name}  {1 if number % 3 else -1} -1" for number, name in enumerate(names)]
    store(folder / "list_attr_celeba.txt", "\n".join(["60", "Smiling Young", *rows]).encode())


def _ffhq_files(folder: Path, patch: Patch, cls: Any) -> None:
    patch.setattr(cls, "held_out", (6, 10))
    patch.setattr(cls, "size", 40)
    for number in range(40):
        place = folder / "thumbnails128x128" / f"{number // 20:05d}" / f"{number:05d}.png"
        store(place, png(np.tile(noise(16, 16, 3, seed=number), (8, 8, 1))))


def _imagenet_files(folder: Path, patch: Patch, cls: Any) -> None:
    patch.setattr(cls, "held_out", 9)
    place = folder.with_name("imagenet32")
    place.mkdir(parents=True)
    for name in [*(f"train_data_batch_{number}" for number in range(1, 11)), "val_data"]:
        seed = 11 + sum(map(ord, name))
        labels = noise(8, top=200, seed=seed).astype(np.int64) + 1
        np.savez(place / f"{name}.npz", data=noise(8, 3072, seed=seed), labels=labels, mean=np.zeros(3072))


def _own_pictures(folder: Path, _: Patch, cls: Any) -> Callable[..., Any]:
    for number in range(90):
        store(folder / "ab"[number % 2] / f"{number}.png", png(noise(6, 6, 3, seed=number)))
    return partial(cls, root=str(folder))


def _own_arrays(folder: Path, _: Patch, cls: Any) -> Callable[..., Any]:
    folder.mkdir(parents=True)
    np.savez(folder / "mine.npz", train=noise(70, 6, 6), test=noise(20, 6, 6, seed=1), train_labels=noise(70, top=4),
             test_labels=noise(20, top=4))  # fmt: skip
    return partial(cls, path=str(folder / "mine.npz"))


def _hf_rows(folder: Path, _: Patch, cls: Any) -> Callable[..., Any]:
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})

    def rows(n: int, seed: int) -> datasets.Dataset:
        images = [Image.fromarray(noise(6, 6, seed=seed + number)) for number in range(n)]
        return datasets.Dataset.from_dict({"image": images, "label": [number % 3 for number in range(n)]}, kinds)

    sizes = {"train": (60, 0), "validation": (20, 100), "test": (20, 200), "unlabelled": (5, 300)}
    datasets.DatasetDict({split: rows(n, seed) for split, (n, seed) in sizes.items()}).save_to_disk(folder / "squares")
    return partial(cls, path=str(folder / "squares"))


class Squares(Dataset[Any]):
    """A Dataset of torch's with float images, channels last."""

    def __init__(self, root: str, train: bool = True) -> None:
        n = 60 if train else 20
        self.images = noise(n, 6, 6, 3, seed=n).astype(np.float32) / 255

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, at: int) -> tuple[Any, int]:
        return self.images[at], at % 4


def _torch_items(folder: Path, _: Patch, cls: Any) -> Callable[..., Any]:
    folder.mkdir(parents=True)
    return partial(cls, dataset=f"{__name__}.Squares", root=str(folder), train={"train": True}, test={"train": False},
                   range=[0, 1])  # fmt: skip


WRITERS: dict[str, Callable[[Path, Patch, Any], Callable[..., Any] | None]] = {
    "arrays": _own_arrays,
    "binarized_mnist": _amat_files,
    "cars3d": _cars3d_files,
    "celeba": _celeba_files,
    "cifar10": _cifar_files,
    "dsprites": _dsprites_file,
    "fashion_mnist": _idx_files,
    "ffhq": _ffhq_files,
    "folder": _own_pictures,
    "frey_faces": _frey_file,
    "hf": _hf_rows,
    "imagenet": _imagenet_files,
    "mnist": _idx_files,
    "mpi3d": _mpi3d_file,
    "omniglot": _omniglot_file,
    "shapes3d": _shapes3d_file,
    "small_norb": _norb_files,
    "svhn": _svhn_files,
    "torch": _torch_items,
}
"""Of the data sets that are not bundled with a library; a new one adds its own."""


def write_tiny(root: Path, patch: Patch, name: str) -> Callable[..., Any]:
    """Points VAEBENCH_DATA at `root` with small files of one data set in it; returns what builds it from them."""
    patch.setenv("VAEBENCH_DATA", str(root))
    cls = find_class("data set", name)
    return (WRITERS[name](root / name, patch, cls) if name in WRITERS else None) or cls


def tiny_cases() -> list[tuple[str, str]]:
    """Every data set under every measure it can have."""
    return [(name, measure) for name in names("data set") for measure in find_class("data set", name).measures]


def real_cases() -> list[tuple[str, str]]:
    """The same for those of which the real files are at hand; the subset of CIFAR-10 stands for CIFAR-10."""
    folders = {name: "cifar10_subset" if name == "cifar10" else name for name in WRITERS}
    return [case for case in tiny_cases() if case[0] in WRITERS and any((REAL / folders[case[0]]).glob("*"))]
