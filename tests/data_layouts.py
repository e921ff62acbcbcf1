"""Small files in the layouts of the published data sets, and where the real ones lie."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

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


WRITERS: dict[str, Callable[[Path, Patch, Any], None]] = {
    "binarized_mnist": _amat_files,
    "cifar10": _cifar_files,
    "fashion_mnist": _idx_files,
    "frey_faces": _frey_file,
    "mnist": _idx_files,
    "omniglot": _omniglot_file,
}
"""Of the data sets that are not bundled with a library; a new one adds its own."""


def write_tiny(root: Path, patch: Patch, name: str) -> type[Any]:
    """Points VAEBENCH_DATA at `root` with small files of one data set in it; returns its class, which accepts them."""
    patch.setenv("VAEBENCH_DATA", str(root))
    cls = find_class("data set", name)
    if name in WRITERS:
        WRITERS[name](root / name, patch, cls)
    return cls


def tiny_cases() -> list[tuple[str, str]]:
    """Every data set under every measure it can have."""
    return [(name, measure) for name in names("data set") for measure in find_class("data set", name).measures]


def real_cases() -> list[tuple[str, str]]:
    """The same for those of which the real files are at hand; the subset of CIFAR-10 stands for CIFAR-10."""
    folders = {name: "cifar10_subset" if name == "cifar10" else name for name in WRITERS}
    return [case for case in tiny_cases() if case[0] in WRITERS and (REAL / folders[case[0]]).is_dir()]
