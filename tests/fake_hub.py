"""A server on loopback that speaks as much of the Hugging Face Hub's protocol as its real client asks for.

It keeps repositories of models with their commits. Files over `large` bytes go by LFS. What it does not know is
answered with an error and noted in `unknown`, so that a test can say there was none.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

TOKEN = "hf_of_a_test"


class FakeHub:
    """What the server keeps.

    Attributes:
        repositories: files by name, by repository; what a test changes there is served.
        private: the repositories that were made private.
        messages: of commits, by repository.
        objects: of LFS, by their SHA-256.
        lfs: names of the files that were sent by LFS.
        sizes: that are claimed of files, in place of their own, by name.
        unknown: requests that it could not answer.
        large: bytes from which a file goes by LFS.
        address: of the server.
    """

    def __init__(self, large: int = 2000) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.messages: dict[str, list[str]] = {}
        self.objects: dict[str, bytes] = {}
        self.lfs: set[str] = set()
        self.sizes: dict[str, int] = {}
        self.unknown: list[str] = []
        self.large = large
        self.address = ""

    def sha(self, repository: str) -> str:
        """The newest commit, 40 hex digits."""
        text = json.dumps([repository, self.messages.get(repository)])
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serves on a free port until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
            self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

        def _missing(self, code: str) -> None:
            self._json({"error": code}, 404, {"X-Error-Code": code, "X-Error-Message": code})

        def _answer(self) -> None:
            body = self._body()
            path = unquote(urlsplit(self.path).path)
            open_to_all = self.command in ("GET", "HEAD") or path.startswith(("/lfs/", "/api/validate-yaml"))
            if not open_to_all and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._json({"error": "Invalid username or password."}, 401)
                return
            for method, pattern, answer in routes:
                found = re.fullmatch(pattern, path)
                if found and self.command in method:
                    answer(self, body, *found.groups())
                    return
            hub.unknown.append(f"{self.command} {self.path}")
            self._json({"error": "unknown"}, 500)

        do_GET = do_POST = do_PUT = do_HEAD = _answer  # noqa: N815

        def create(self, body: bytes) -> None:
            said = json.loads(body)
            name = f"{said['organization']}/{said['name']}"
            if name in hub.repositories:
                self._json({"error": "You already created this model repo", "url": f"{hub.address}/{name}"}, 409)
                return
            hub.repositories[name] = {".gitattributes": b""}
            if said.get("private") or said.get("visibility") == "private":
                hub.private.add(name)
            self._json({"url": f"{hub.address}/{name}", "name": name, "id": "1"})

        def info(self, _: bytes, name: str, revision: str | None = None) -> None:
            if name not in hub.repositories:
                self._missing("RepoNotFound")
            elif revision not in (None, "main", hub.sha(name)):
                self._missing("RevisionNotFound")
            else:
                files = hub.repositories[name]
                siblings = [{"rfilename": n, "size": hub.sizes.get(n, len(c)), "blobId": "0"} for n, c in files.items()]
                self._json({"id": name, "modelId": name, "sha": hub.sha(name), "private": name in hub.private,
                            "tags": [], "downloads": 0, "likes": 0, "siblings": siblings})  # fmt: skip

        def harnesses(self, _: bytes) -> None:
            """What the client asks for to tell who calls it; there is none here."""
            self._json({})

        def validate(self, _: bytes) -> None:
            self._json({"errors": [], "warnings": []})

        def preupload(self, body: bytes, _: str) -> None:
            files = [
                {"path": file["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if file["size"] >= hub.large else "regular"}
                for file in json.loads(body)["files"]
            ]  # fmt: skip
            self._json({"files": files})

        def batch(self, body: bytes, _: str) -> None:
            objects = [
                {"oid": one["oid"], "size": one["size"], "authenticated": True,
                 "actions": {"upload": {"href": f"{hub.address}/lfs/{one['oid']}", "header": {}}}}
                for one in json.loads(body)["objects"]
            ]  # fmt: skip
            self._json({"transfer": "basic", "objects": objects})

        def upload(self, body: bytes, oid: str) -> None:
            assert hashlib.sha256(body).hexdigest() == oid
            hub.objects[oid] = body
            self._send(200, b"")

        def commit(self, body: bytes, name: str) -> None:
            files = hub.repositories[name]
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "header":
                    hub.messages.setdefault(name, []).append(value["summary"])
                elif line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.lfs.add(value["path"])
                    files[value["path"]] = hub.objects[value["oid"]]
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
                else:
                    hub.unknown.append(str(line["key"]))
            sha = hub.sha(name)
            self._json({"success": True, "commitUrl": f"{hub.address}/{name}/commit/{sha}", "commitOid": sha})

        def resolve(self, _: bytes, name: str, revision: str, file: str) -> None:
            content = hub.repositories.get(name, {}).get(file)
            if content is None or revision not in ("main", hub.sha(name)):
                self._missing("EntryNotFound")
                return
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            self._send(200, content, {"ETag": etag, "X-Repo-Commit": hub.sha(name)})

    repository = r"([^/]+/[^/]+)"
    routes = [
        ("POST", "/api/repos/create", Handler.create),
        ("GET", "/api/agent-harnesses", Handler.harnesses),
        ("POST", "/api/validate-yaml", Handler.validate),
        ("POST", f"/api/models/{repository}/preupload/main", Handler.preupload),
        ("POST", f"/{repository}.git/info/lfs/objects/batch", Handler.batch),
        ("PUT", "/lfs/([0-9a-f]{64})", Handler.upload),
        ("POST", f"/api/models/{repository}/commit/main", Handler.commit),
        (("GET",), f"/api/models/{repository}", Handler.info),
        (("GET",), f"/api/models/{repository}/revision/([^/]+)", Handler.info),
        (("GET", "HEAD"), f"/{repository}/resolve/([^/]+)/(.+)", Handler.resolve),
    ]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def answering(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A server to which the client in this process speaks; what it keeps of a user is looked for in a folder."""
    with serving(FakeHub()) as found:
        point(patch, found.address)
        patch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
        patch.setattr(constants, "AGENT_HARNESSES_PATH", str(folder / "harnesses"))
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setenv("HF_TOKEN", TOKEN)
        yield found
        assert found.unknown == []


def point(patch: pytest.MonkeyPatch, address: str) -> None:
    """What HF_ENDPOINT does where the client is imported."""
    patch.setattr(constants, "ENDPOINT", address)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
