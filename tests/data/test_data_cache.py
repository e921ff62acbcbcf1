"""Files of every format: read as they are, and each thing that can be wrong with one named in a sentence."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import data_layouts as layouts
import numpy as np
import pytest
import scipy.io
from data_layouts import one_sentence, store

from vaebench.configuration.discovery import find_class
from vaebench.data import cache, formats
from vaebench.data.cache import DamagedError, File
from vaebench.errors import UserError

# Formats ----------------------------------------------------------------------------------------------------------


def test_amat_agrees_with_numpy():
    bits = layouts.noise(9, 784, top=2)
    content = layouts.amat(bits)
    assert np.array_equal(formats.amat(content, 784), np.loadtxt(io.BytesIO(content), dtype=np.uint8))


def test_idx_returns_what_was_written():
    images = layouts.noise(5, 28, 28)
    assert np.array_equal(formats.idx(layouts.idx(images), (28, 28)), images)


@pytest.mark.parametrize("options", [{"format": "4"}, {"format": "5"}, {"format": "5", "do_compression": True}])
def test_matlab_of_every_version(options):
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"ff": layouts.noise(4, 3), "gg": np.eye(2)}, **options)
    gg, ff = formats.matlab(buffer.getvalue(), "gg", "ff")
    assert np.array_equal(ff, layouts.noise(4, 3))
    assert np.array_equal(gg, np.eye(2))


def test_frey_faces_lie_in_columns_row_by_row(tmp_path, monkeypatch):
    cls = layouts.write_tiny(tmp_path, monkeypatch, "frey_faces")
    frames = layouts.noise(60, 560).reshape(60, 28, 20)[np.random.RandomState(0).permutation(60)]
    assert np.array_equal(cls().raw()["test"].images[:, 0], frames[-10:])


def test_omniglot_is_turned_and_held_out_as_burda_does(tmp_path, monkeypatch):
    """Against the expressions of the importance-weighted autoencoder's published code."""
    cls = layouts.write_tiny(tmp_path, monkeypatch, "omniglot")
    variables, splits = layouts.omniglot(), cls().raw()

    def turned(data: Any) -> Any:
        return data.T.reshape((-1, 28, 28)).reshape((-1, 28 * 28), order="F")

    train = turned(variables["data"])[np.random.RandomState(seed=123).permutation(90)]
    expected = {"train": train[:-20], "val": train[-20:], "test": turned(variables["testdata"])}
    for name, images in expected.items():
        assert np.allclose(splits[name].images.flatten(1) / 255.0, images, atol=1e-6)
    assert np.array_equal(splits["test"].labels, variables["testtarget"].argmax(0))


def test_cifar_planes_follow_the_label(tmp_path, monkeypatch):
    cls = layouts.write_tiny(tmp_path, monkeypatch, "cifar10")
    record = np.frombuffer(layouts.cifar(12, seed=5), np.uint8).reshape(12, 3073)
    test = cls().raw()["test"]
    assert np.array_equal(test.images.flatten(1), record[:, 1:])
    assert np.array_equal(test.labels, record[:, 0])


def test_cifar_reads_the_same_packed_and_unpacked(tmp_path, monkeypatch):
    cls = layouts.write_tiny(tmp_path, monkeypatch, "cifar10")
    packed = cls().hashes
    archive = tmp_path / "cifar10" / cls.file.name
    for name, content in formats.archive(archive.read_bytes()).items():
        store(tmp_path / "cifar10" / name, content)
    archive.unlink()
    assert cls().hashes == packed == cls(subset=True).hashes


def test_mnist_reads_the_same_with_gz_and_without(tmp_path, monkeypatch):
    cls = layouts.write_tiny(tmp_path, monkeypatch, "mnist")
    packed = cls().hashes
    for path in list((tmp_path / "mnist").iterdir()):
        store(path.with_suffix(""), gzip.decompress(path.read_bytes()))
        path.write_bytes(b"not looked at where the plain file is")
    assert cls().hashes == packed


def test_validation_is_the_end_of_the_training_file(tmp_path, monkeypatch):
    cls = layouts.write_tiny(tmp_path, monkeypatch, "mnist")
    splits = cls().raw()
    assert np.array_equal(splits["val"].images[:, 0], layouts.noise(130, 28, 28)[-30:])
    assert np.array_equal(splits["val"].labels, layouts.noise(130, top=10)[-30:])


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_fewer_images_may_be_held_out(name, tmp_path, monkeypatch):
    """Papers that validate on nothing train on the images that are held out by default."""
    cls = layouts.write_tiny(tmp_path, monkeypatch, name)
    assert {split: len(cls(held_out=7).raw()[split].images) for split in ("train", "val")} == {"train": 123, "val": 7}
    with pytest.raises(UserError, match="held_out is 0: expected at least 1"):
        cls(held_out=0)


def test_fashion_mnist_is_found_where_debian_installs_it(tmp_path, monkeypatch):
    """Its own folder goes first; of a damaged file of the package no download is promised."""
    cls = layouts.write_tiny(tmp_path, monkeypatch, "fashion_mnist")
    assert {Path(file.installed).parent for file in cls.files} == {Path("/usr/share/datasets/fashion-mnist")}
    own, package = cache.data_folder("fashion_mnist"), tmp_path / "package"
    expected = cls().raw()["train"].images
    own.rename(package)
    files = tuple(replace(file, installed=str(package / f"{file.name}.gz")) for file in cls.files)
    monkeypatch.setattr(cls, "files", files)
    assert cls().raw()["train"].images.equal(expected)
    assert not own.exists(), "nothing is copied"
    (package / f"{files[0].name}.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match="is no intact gzip file; install its package again, or put an intact copy at"):
        cls().raw()


def test_rows_sorted_by_class_are_shuffled(tmp_path, monkeypatch):
    cls = layouts.write_tiny(tmp_path, monkeypatch, "binarized_mnist")
    order = np.random.RandomState(0).permutation(70)
    assert np.array_equal(cls().raw()["train"].images.flatten(1), layouts.noise(70, 784, top=2)[order])


# Damage -----------------------------------------------------------------------------------------------------------


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def torn(content: bytes) -> bytes:
    return content[:-100]


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def unzipped(damage: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda content: gzip.compress(damage(gzip.decompress(content)))


def without(name: str) -> Callable[[bytes], bytes]:
    return lambda content: layouts.tar({k: v for k, v in formats.archive(content).items() if not k.endswith(name)})


def of(content: bytes) -> Callable[[bytes], bytes]:
    return lambda _: content


def characters(**changes: Any) -> Callable[[bytes], bytes]:
    variables = {k: v for k, v in (layouts.omniglot() | changes).items() if v is not None}
    return of(layouts.mat(**variables))


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
TRAIN, FREY, OMNIGLOT = "binarized_mnist_train.amat", "frey_rawface.mat", "chardata.mat"
CIFAR, SUBSET = "cifar-10-binary.tar.gz", "cifar-10-binary-subset.tar.gz"
MEMBERS = [f"cifar-10-batches-bin/{name}.bin" for name in ("data_batch_1", "test_batch")]
DAMAGE = [
    ("mnist", IMAGES, unzipped(flipped), "has the sha256 checksum .* where .* was expected"),
    ("mnist", IMAGES, cut, "is truncated: expected a whole gzip file"),
    ("mnist", IMAGES, of(b"<html>"), "is no intact gzip file"),
    ("mnist", IMAGES, unzipped(cut), "is truncated: expected 101,936 bytes when unpacked and found 50,968"),
    ("mnist", IMAGES, unzipped(lambda c: c + b"x"), "is too long: expected 101,936 bytes"),
    ("mnist", IMAGES, unzipped(of(b"")), "does not begin like an idx file"),
    ("mnist", IMAGES, of(gzip.compress(layouts.idx(layouts.noise(130, 28, 27)))), r"\(28, 27\) where \(28, 28\)"),
    ("mnist", LABELS, unzipped(cut), "is truncated: expected 138 bytes when unpacked and found 69"),
    ("mnist", LABELS, of(gzip.compress(layouts.idx(layouts.noise(130, 28, 28)))), "does not begin like an idx file"),
    ("binarized_mnist", TRAIN, torn, "is truncated: expected whole lines of 1,568 bytes and found 109,660"),
    ("binarized_mnist", TRAIN, flipped, "holds something else than lines of 0 and 1"),
    ("binarized_mnist", TRAIN, lambda c: c.replace(b"1", b"2", 1), "holds something else than lines of 0 and 1"),
    ("binarized_mnist", TRAIN, lambda c: c.replace(b"0", b"1", 1), "has the sha256 checksum"),
    ("binarized_mnist", TRAIN, of(layouts.amat(layouts.noise(70, 783, top=2))), "783 values in its first line"),
    ("binarized_mnist", TRAIN, of(b""), "0 values in its first line where 784 were expected"),
    ("frey_faces", FREY, cut, "is no intact MATLAB file"),
    ("frey_faces", FREY, of(b"<html>"), "is no intact MATLAB file"),
    ("frey_faces", FREY, of(layouts.mat(gg=np.eye(2))), "holds no variable 'ff'"),
    ("frey_faces", FREY, of(layouts.mat(ff=layouts.noise(559, 60))), r"ff of uint8 \(559, 60\) where uint8 \(560, n\)"),
    ("frey_faces", FREY, of(layouts.mat(ff=layouts.noise(560, 60) / 255)), r"ff of float64 \(560, 60\)"),
    ("frey_faces", FREY, of(layouts.mat(ff=layouts.noise(560, 60, seed=9))), "has the sha256 checksum"),
    ("omniglot", OMNIGLOT, characters(target=None), "holds no variable 'target'"),
    ("omniglot", OMNIGLOT, characters(target=np.eye(50)), "lacks labels: expected 90 columns, one an image"),
    ("omniglot", OMNIGLOT, characters(data=np.zeros((783, 90))), r"images of shape \(783, 90\) where \(784, n\)"),
    ("omniglot", OMNIGLOT, characters(data=np.full((784, 90), 255)), "values from 255 to 255 where 0 to 1"),
    ("omniglot", OMNIGLOT, characters(data=np.zeros((784, 90))), "has the sha256 checksum"),
    ("cifar10", CIFAR, cut, "is truncated: expected a whole archive|is no intact tar archive"),
    ("cifar10", CIFAR, of(b"<html>"), "is no intact tar archive"),
    ("cifar10", CIFAR, without("data_batch_3.bin"), "lacks cifar-10-batches-bin/data_batch_3.bin"),
    ("cifar10", CIFAR, of(layouts.tar(dict.fromkeys(MEMBERS, b""))), "checksum"),
    ("cifar10_subset", SUBSET, without("test_batch.bin"), "lacks cifar-10-batches-bin/test_batch.bin"),
    ("cifar10_subset", SUBSET, of(layouts.tar({})), "lacks cifar-10-batches-bin/data_batch_1.bin"),
    ("cifar10_subset", SUBSET, of(layouts.tar(dict.fromkeys(MEMBERS, bytes(3072)))), "expected records of 3,073 bytes"),
    ("cifar10_subset", SUBSET, of(layouts.tar(dict.fromkeys(MEMBERS, bytes([10] * 3073)))), "a label of 10"),
]  # fmt: skip


@pytest.mark.parametrize(("folder", "name", "damage", "words"), DAMAGE)
def test_a_damaged_file_is_named_with_what_was_expected(folder, name, damage, words, tmp_path, monkeypatch):
    cls = layouts.write_tiny(tmp_path, monkeypatch, folder.removesuffix("_subset"))
    path = tmp_path / folder / name
    store(path, damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(UserError, match=words) as error:
        cls(**({"subset": True} if folder.endswith("_subset") else {})).sizes  # noqa: B018 - reads the files
    message = str(error.value)
    assert message.startswith(f"{path} ")
    assert one_sentence(message)
    assert "put an intact copy in its place" in message
    assert path.read_bytes() == before


def test_fewer_labels_than_images_are_missing_labels(tmp_path, monkeypatch):
    cls = layouts.write_tiny(tmp_path, monkeypatch, "mnist")
    labels = layouts.idx(layouts.noise(129, top=10))
    store(tmp_path / "mnist" / LABELS, gzip.compress(labels))
    files = list(cls.files)
    files[1] = File(files[1].name, files[1].url, layouts.sha256(labels))
    monkeypatch.setattr(cls, "files", tuple(files))
    with pytest.raises(UserError, match=r"lacks labels: expected 130, one for each image.*found 129; delete") as error:
        cls().sizes  # noqa: B018 - reads the files
    assert one_sentence(str(error.value))


def test_a_missing_member_of_the_unpacked_folder_is_named(tmp_path, monkeypatch):
    cls = layouts.write_tiny(tmp_path, monkeypatch, "cifar10")
    (tmp_path / "cifar10" / "cifar-10-batches-bin").mkdir()
    with pytest.raises(UserError, match=r"data_batch_1\.bin is missing and has no address.*put it there") as error:
        cls().sizes  # noqa: B018 - reads the files
    assert one_sentence(str(error.value))


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    cls = layouts.write_tiny(tmp_path, monkeypatch, "frey_faces")

    def refuse(_: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"frey_rawface.mat cannot be read \(Permission denied\).*; mend") as error:
        cls().sizes  # noqa: B018 - reads the files
    assert one_sentence(str(error.value))


def test_published_checksums_are_well_formed():
    """They cannot be compared without the files, but a slip of the keyboard shows in their length."""
    digits = {"md5": 32, "sha1": 40, "git": 40, "sha256": 64}
    sums = [f.checksum for name in ("mnist", "fashion_mnist") for f in find_class("data set", name).files]
    sums += [file.checksum for file in find_class("data set", "binarized_mnist").files.values()]
    sums += [find_class("data set", "frey_faces").checksum, find_class("data set", "omniglot").file.checksum]
    sums += find_class("data set", "cifar10").checksums.values()
    assert len(sums) == len(set(sums)) == 4 + 4 + 3 + 1 + 1 + 6
    for algorithm, _, value in (checksum.partition(":") for checksum in sums):
        assert len(bytes.fromhex(value)) * 2 == digits[algorithm]


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_verify_agrees_with_hashlib(algorithm):
    checksum = hashlib.new(algorithm, b"content").hexdigest()
    cache.check_checksum(b"content", f"{algorithm}:{checksum}")
    with pytest.raises(DamagedError, match=checksum):
        cache.check_checksum(b"contents", f"{algorithm}:{checksum}")


def test_verify_knows_the_ids_of_git_blobs():
    """The example of Pro Git, chapter 10.2: `echo 'version 1' | git hash-object --stdin`."""
    cache.check_checksum(b"version 1\n", "git:83baae61804e65cc73a7201a7252750c76066a30")
