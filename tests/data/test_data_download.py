"""Downloads: kept as published once they are whole, and never in part."""

from __future__ import annotations

import errno
import gc
import gzip
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import data_layouts as layouts
import pooch
import pytest
from data_layouts import one_sentence, store

from vaebench.data import cache
from vaebench.data.cache import DamagedError, File
from vaebench.errors import UserError

SUM = layouts.sha256(b"content")


class Handler(BaseHTTPRequestHandler):
    """Serves `content` in full, or cut short after a promise of more."""

    content, status, promised = b"content", 200, 0

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(self.promised or len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A web server on this machine: `address`, `handler` to change what it sends, `close` to take it away."""
    monkeypatch.setenv("VAEBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Mine(Handler):
        pass

    with HTTPServer(("127.0.0.1", 0), Mine) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        http.address, http.handler = f"http://127.0.0.1:{http.server_address[1]}/", Mine
        yield http
        http.shutdown()
        thread.join()
    with warnings.catch_warnings():  # pooch leaves the connection of a broken transfer to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def obtain(url: str | None, checksum: str | None = SUM, parse: Callable[[bytes], bytes] = bytes) -> bytes:
    return cache.obtain("set", File("file", url, checksum), parse)


def left(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_download_is_kept_as_published_and_not_repeated(suffix, server, tmp_path):
    url = f"{server.address}file{suffix}"
    server.handler.content = gzip.compress(b"content") if suffix else b"content"
    assert obtain(url) == b"content"
    assert left(tmp_path) == [f"file{suffix}"]
    server.handler.content = b"something else"
    assert obtain(url) == b"content"


def refuse(_: bytes) -> bytes:
    raise DamagedError("holds nothing of use")


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # pooch's; the collector may come before the fixture calls it
@pytest.mark.parametrize(
    ("changes", "parse", "words"),
    [
        ({"content": b"<html>"}, bytes, "has the sha256 checksum .* where .* was expected; nothing was kept"),
        ({}, refuse, "holds nothing of use; nothing was kept"),
        ({"promised": 99}, bytes, "could not be downloaded .*: expected a connection that stays; try again"),
        ({"status": 404}, bytes, r"could not be downloaded \(HTTP status 404\)"),
        ({"status": 503}, bytes, r"could not be downloaded \(HTTP status 503\)"),
    ],
)
def test_a_broken_download_never_stays(changes, parse, words, server, tmp_path):
    for name, value in changes.items():
        setattr(server.handler, name, value)
    with pytest.raises(UserError, match=words) as error:
        obtain(f"{server.address}file", parse=parse)
    assert f"{server.address}file" in str(error.value)
    assert str(tmp_path / "set" / "file") in str(error.value)
    assert one_sentence(str(error.value))
    assert left(tmp_path) == []


def test_without_a_network_the_address_and_the_place_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
        with pytest.raises(
            UserError, match=r"could not be downloaded \(ConnectionError\).*fetch the file elsewhere"
        ) as error:
            obtain(url)
    assert url in str(error.value)
    assert str(tmp_path / "set" / "file") in str(error.value)
    assert one_sentence(str(error.value))
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("failure", "raised", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            UserError,
            "no room on the disk for .*; free some, or point",
        ),
        (OSError(errno.EROFS, "Read-only file system"), UserError, r"cannot be stored \(Read-only file system\)"),
        (PermissionError("pooch tells it in words"), UserError, r"cannot be stored \(permission denied\)"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_download_that_breaks_off_leaves_nothing(failure, raised, words, tmp_path, monkeypatch):
    def breaks(_self: Any, _url: str, output: str, _pooch: object) -> None:
        Path(output).write_bytes(b"cont")
        raise failure

    monkeypatch.setenv("VAEBENCH_DATA", str(tmp_path))
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", breaks)
    with pytest.raises(raised, match=words) as error:
        obtain("http://127.0.0.1:1/file")
    assert raised is KeyboardInterrupt or one_sentence(str(error.value))
    assert left(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEBENCH_DATA", str(store(tmp_path / "file", b"")))
    with pytest.raises(UserError, match=r"cannot be stored \(Not a directory\).*; put the file there") as error:
        obtain("http://127.0.0.1:1/file")
    assert one_sentence(str(error.value))


def test_a_file_without_an_address_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEBENCH_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"file is missing and has no address of its own.*put it there") as error:
        obtain(None)
    assert one_sentence(str(error.value))


def test_the_cache_is_the_users_unless_it_is_moved(monkeypatch):
    monkeypatch.delenv("VAEBENCH_DATA", raising=False)
    assert cache.data_folder("mnist") == Path(pooch.os_cache("vaebench")) / "mnist"
    monkeypatch.setenv("VAEBENCH_DATA", "~/somewhere")
    assert cache.data_folder("mnist") == Path.home() / "somewhere" / "mnist"
