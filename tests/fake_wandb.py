"""A server on loopback that speaks as much of Weights & Biases' protocol as its real client asks for.

It keeps what it is sent: runs with history, summary and files, artifacts, reports. `fail` and `stall` make it a bad
one. What it does not know is answered with an error and noted in `unknown`, so that a test can say there was none.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

USER = {"id": "VXNlcjox", "flags": "{}", "entity": "me", "username": "me", "name": "me", "email": "me@here",
        "admin": False, "apiKeys": {"edges": []}, "defaultEntity": {"name": "me"},
        "teams": {"edges": [{"node": {"name": "me"}}]}}  # fmt: skip
WHEN = "2026-01-01T00:00:00"
KEY = "0" * 40
HURRY = {f"WANDB_X_{part}_RETRY_WAIT_{end}_SECONDS": "0.1"
         for part in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER") for end in ("MIN", "MAX")}  # fmt: skip
LAST = {"endCursor": None, "hasNextPage": False}


def edges(nodes: list[Any]) -> dict[str, Any]:
    return {"edges": [{"node": node, "cursor": str(i)} for i, node in enumerate(nodes)], "pageInfo": LAST}


class FakeWandb:
    """What the server keeps.

    Attributes:
        projects: names. runs: what was said of each run, by id. history, summary, exit: what it streamed.
        files: uploads by path. artifacts: by id, with `files` and `run`. views: reports by id.
        asked: number of requests of each kind. unknown: what it could not answer.
    """

    def __init__(self) -> None:
        self.projects = {"vaebench"}
        self.runs: dict[str, dict[str, Any]] = {}
        self.history: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.summary: dict[str, dict[str, Any]] = defaultdict(dict)
        self.exit: dict[str, int] = {}
        self.files: dict[str, bytes] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.asked: Counter[str] = Counter()
        self.unknown: list[Any] = []
        self._faults: dict[str, list[float]] = defaultdict(list)
        self.lock = threading.Lock()
        self.url = ""

    def fail(self, kind: str, times: int = 1) -> None:
        """The next requests of a kind are answered with 500."""
        self._faults[kind] += [0.0] * times

    def stall(self, kind: str, seconds: float, times: int = 1) -> None:
        """The next requests of a kind are not answered for so long, and then with nothing."""
        self._faults[kind] += [seconds] * times

    def fault(self, kind: str) -> float | None:
        with self.lock:
            self.asked[kind] += 1
            return self._faults[kind].pop(0) if self._faults[kind] else None

    def artifact(self, name: str) -> dict[str, Any] | None:
        """The latest artifact of a name."""
        named = [a for a in self.artifacts.values() if a["artifactCollectionName"] == name]
        return named[-1] if named else None

    def content(self, artifact: dict[str, Any], name: str) -> bytes:
        return self.files[f"/upload/artifact/{artifact['id']}/{name}"]

    def answer(self, kind: str, v: dict[str, Any]) -> dict[str, Any] | None:
        """What GraphQL answers to an operation with variables; None where it is unknown."""
        method = getattr(self, "on_" + re.sub(r"(?<!^)(?=[A-Z])", "_", kind).lower(), None)
        return None if method is None else method(v)

    # Who and where --------------------------------------------------------------------------------------------------

    def on_viewer(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": USER}

    on_get_viewer = on_get_default_entity = on_viewer

    def on_server_features_query(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def on_server_info(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"cliVersionInfo": {"max_cli_version": "9.0.0", "min_cli_version": "0.0.1"},
                               "features": [], "latestLocalVersionInfo": None}}  # fmt: skip

    def project(self, v: dict[str, Any]) -> dict[str, Any]:
        name, entity = v.get("projectName") or v.get("project") or v.get("name") or "vaebench", "me"
        return {"id": "UHJvajox", "internalId": "1", "name": name, "entityName": entity, "createdAt": WHEN,
                "entity": {"id": "e", "name": entity}, "isBenchmark": False, "user": None}  # fmt: skip

    def on_get_projects(self, v: dict[str, Any]) -> dict[str, Any]:
        known = [{**self.project({"name": name}), "__typename": "Project"} for name in sorted(self.projects)]
        return {"models": edges(known)}

    def on_create_project(self, v: dict[str, Any]) -> dict[str, Any]:
        name = v["input"]["name"]
        self.projects.add(name)
        return {"upsertModel": {"project": self.project({"name": name}), "inserted": True}}

    def on_project_internal_id(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"project": self.project(v) if v["projectName"] in self.projects else None}

    def on_organization_core_weave_organization_i_d(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    # Runs -----------------------------------------------------------------------------------------------------------

    def on_upsert_bucket(self, v: dict[str, Any]) -> dict[str, Any]:
        name = v.get("name") or v["id"]
        self.projects.add(v.get("project") or "vaebench")
        self.runs[name] = {**self.runs.get(name, {}), **{key: value for key, value in v.items() if value is not None}}
        run = {"id": f"run:{name}", "name": name, "displayName": v.get("displayName"), "description": None,
               "config": v.get("config"), "sweepName": None, "historyLineCount": 0,
               "project": self.project(v)}  # fmt: skip
        return {"upsertBucket": {"bucket": run, "inserted": True}}

    def on_run_resume_status(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"model": {**self.project(v), "bucket": None}}

    def on_run_stopped_status(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"run": {"stopped": False}}}

    def on_create_run_files(self, v: dict[str, Any]) -> dict[str, Any]:
        made = [{"name": name, "uploadUrl": f"{self.url}/upload/run/{v['run']}/{name}"} for name in v["files"]]
        return {"createRunFiles": {"runID": f"run:{v['run']}", "uploadHeaders": [], "files": made}}

    def on_runs(self, v: dict[str, Any]) -> dict[str, Any]:
        if v["project"] not in self.projects:
            return {"project": None}
        runs = [
            {"id": f"run:{name}", "tags": run.get("tags", []), "name": name, "displayName": run.get("displayName"),
             "sweepName": None, "state": "finished", "group": run.get("groupName"), "jobType": run.get("jobType"),
             "commit": None, "readOnly": False, "createdAt": WHEN, "heartbeatAt": WHEN, "description": None,
             "notes": None, "historyLineCount": len(self.history[name]), "projectId": "1", "user": USER}
            for name, run in sorted(self.runs.items())
            if run.get("project", "vaebench") == v["project"]
        ]  # fmt: skip
        return {"project": {**self.project(v), "runCount": len(runs), "readOnly": False, "runs": edges(runs)}}

    # Artifacts ------------------------------------------------------------------------------------------------------

    def on_create_artifact(self, v: dict[str, Any]) -> dict[str, Any]:
        made = dict(v.get("input", v))
        number = f"art{len(self.artifacts) + 1}"
        collection = made.get("artifactCollectionName") or (made.get("artifactCollectionNames") or ["?"])[0]
        self.artifacts[number] = {**made, "id": number, "artifactCollectionName": collection}
        return {"createArtifact": {"artifact": {"id": number, "state": "PENDING", "artifactSequence": {
            "id": f"sequence-{collection}", "latestArtifact": None}}}}  # fmt: skip

    def on_create_artifact_manifest(self, v: dict[str, Any]) -> dict[str, Any]:
        url = f"{self.url}/upload/manifest/{v['artifactID']}"
        file = {"id": "f1", "name": v["name"], "displayName": v["name"], "uploadUrl": url, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "manifest", "file": file}}}

    def on_create_artifact_files(self, v: dict[str, Any]) -> dict[str, Any]:
        nodes = [
            {"id": f["name"], "name": f["name"], "displayName": f["name"], "storagePath": f["name"],
             "uploadUrl": f"{self.url}/upload/artifact/{f['artifactID']}/{f['name']}", "uploadHeaders": [],
             "uploadMultipartUrls": None, "artifact": {"id": f["artifactID"]}}
            for f in v.get("artifactFiles") or v["input"]["artifactFiles"]
        ]  # fmt: skip
        return {"createArtifactFiles": {"files": edges(nodes)}}

    def on_commit_artifact(self, v: dict[str, Any]) -> dict[str, Any]:
        self.artifacts[v["artifactID"]]["committed"] = True
        return {"commitArtifact": {"artifact": {"id": v["artifactID"], "digest": ""}}}

    def on_run_output_artifacts(self, v: dict[str, Any]) -> dict[str, Any]:
        logged = [artifact for artifact in self.artifacts.values() if artifact["runName"] == v["run"]]
        found = {**edges([self._described(artifact, v) for artifact in logged]), "totalCount": len(logged)}
        found["pageInfo"] = {"__typename": "PageInfo", **LAST}
        return {"project": {"run": {"artifacts": found}}}

    def _described(self, artifact: dict[str, Any], v: dict[str, Any]) -> dict[str, Any]:
        name = artifact["artifactCollectionName"]
        collection = {"__typename": "ArtifactSequence", "name": name, "project": self.project(v)}
        versions = [a["id"] for a in self.artifacts.values() if a["artifactCollectionName"] == name]
        metadata = artifact.get("metadata") or "{}"
        return {"__typename": "Artifact", "id": artifact["id"], "artifactSequence": collection,
                "versionIndex": versions.index(artifact["id"]), "artifactType": {"name": artifact["artifactTypeName"]},
                "description": None, "metadata": metadata, "ttlDurationSeconds": -2, "ttlIsInherited": True, "tags": [],
                "historyStep": None, "state": "COMMITTED", "size": 1, "digest": artifact["digest"],
                "digestAlgorithm": "MANIFEST_MD5", "commitHash": "c", "fileCount": 1, "createdAt": WHEN,
                "updatedAt": None, "aliases": []}  # fmt: skip

    def on_artifact_type(self, v: dict[str, Any]) -> dict[str, Any]:
        found = self.artifact(v["name"].partition(":")[0])
        kind = found and {"artifactType": {"name": found["artifactTypeName"]}}
        return {"project": {"artifact": kind}}

    def on_fetch_artifact_manifest(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"artifact": {"currentManifest": {"file": {"directUrl": f"{self.url}/upload/manifest/{v['id']}"}}}}

    def on_artifact_membership_files(self, v: dict[str, Any]) -> dict[str, Any]:
        return self._membership_files(v)

    on_get_artifact_membership_file_urls = on_artifact_membership_files

    def _membership_files(self, v: dict[str, Any]) -> dict[str, Any]:
        named = [a for a in self.artifacts.values() if a["artifactCollectionName"] == v["collection"]]
        found = named[int(v["alias"][1:])]
        start = f"/upload/artifact/{found['id']}/"
        nodes = [
            {"__typename": "File", "id": path, "name": path.removeprefix(start), "url": self.url + path,
             "directUrl": self.url + path, "sizeBytes": len(content), "storagePath": path, "mimetype": None,
             "updatedAt": WHEN, "digest": None, "md5": None}
            for path, content in self.files.items()
            if path.startswith(start)
        ]  # fmt: skip
        files = {**edges(nodes), "totalCount": len(nodes)}
        files["pageInfo"] = {"__typename": "PageInfo", **LAST}
        return {"project": {"artifactCollection": {
            "__typename": "ArtifactSequence", "artifactMembership": {"files": files}}}}  # fmt: skip

    # Reports --------------------------------------------------------------------------------------------------------

    def on_upsert_view(self, v: dict[str, Any]) -> dict[str, Any]:
        number = v.get("id") or base64.b64encode(f"View:{len(self.views) + 1}".encode()).decode().rstrip("=")
        new = number not in self.views
        said = {key: v.get(key) for key in ("type", "name", "displayName", "description")}
        self.views[number] = {"id": number, **said,
                              "project": self.project(v), "spec": v["spec"], "updatedAt": WHEN, "createdAt": WHEN,
                              "user": USER}  # fmt: skip
        return {"upsertView": {"view": self.views[number], "inserted": new}}

    def on_specific_report(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"view": self.views.get(v["reportId"])}

    def on_project_views(self, v: dict[str, Any]) -> dict[str, Any]:
        here = [view for view in self.views.values() if view["project"]["name"] == v["project"]]
        return {"project": {"allViews": edges(here)}}


class Handler(BaseHTTPRequestHandler):
    """HTTP around a `FakeWandb`."""

    protocol_version = "HTTP/1.1"
    state: FakeWandb

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        body, state = self._body(), self.state
        if self.path.startswith("/graphql"):
            request = json.loads(body)
            query = request["query"]
            found = re.search(r"(?:query|mutation)\s+(\w+)", query)
            kind = request.get("operationName") or (found[1] if found else "?")
            if self._faulty(kind):
                return
            if "__type(" in query or "__schema" in query:
                none: dict[str, Any] = {"fields": []}
                kinds = {"TypeInfo": {"fields": [], "inputFields": []}, "MutationType": none, "UserType": none,
                         "QueryType": {"fields": [{"name": "serverInfo"}]}}  # fmt: skip
                self._send({"data": kinds})
                return
            with state.lock:  # the client sends several requests at once, and each artifact gets a number
                answer = state.answer(kind, request.get("variables") or {})
            if answer is None:
                state.unknown.append((kind, query))
                self._send({"data": None, "errors": [{"message": f"unknown operation {kind}"}]})
            else:
                self._send({"data": answer})
        elif stream := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            if self._faulty("file_stream"):
                return
            self._stream(stream[1], json.loads(body))
            self._send({"limits": {}})
        else:
            state.unknown.append(("POST", self.path))
            self._send({}, 404)

    def _stream(self, run: str, content: dict[str, Any]) -> None:
        for name, part in (content.get("files") or {}).items():
            lines = [json.loads(line) for line in part["content"]] if "jsonl" in name or "summary" in name else []
            if "history" in name:  # an offset says where the lines belong: a run that begins again overwrites
                self.state.history[run][part["offset"] :] = lines
            elif "summary" in name:
                for line in lines:
                    self.state.summary[run] |= line
        if content.get("complete") is not None:
            self.state.exit[run] = content.get("exitcode", 0)

    def do_PUT(self) -> None:
        body = self._body()
        if not self._faulty("upload"):
            self.state.files[unquote(self.path)] = body
            self._send(b"")

    def do_GET(self) -> None:
        content = self.state.files.get(unquote(self.path))
        if self._faulty("download"):
            return
        if content is None:
            self.state.unknown.append(("GET", self.path))
        self._send(content or b"{}", 404 if content is None else 200)

    def _faulty(self, kind: str) -> bool:
        fault = self.state.fault(kind)
        if fault is not None:
            time.sleep(fault)
            self._send({"error": "the test wants this to fail"}, 500)
        return fault is not None

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            raw = b""
            while size := int(self.rfile.readline().strip(), 16):
                raw += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw

    def _send(self, content: Any, code: int = 200) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        try:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client gave up waiting


@contextmanager
def serving() -> Iterator[FakeWandb]:
    """The server, running at `url`."""
    state = FakeWandb()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state}))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def alone(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """The client keeps all that it keeps in a folder; it has no key and no server, and reports no errors to anybody."""
    for name in ("DATA_DIR", "CACHE_DIR", "CONFIG_DIR", "ARTIFACT_DIR"):
        patch.setenv(f"WANDB_{name}", str(folder / name.lower()))
    for name in ("API_KEY", "MODE", "PROJECT", "ENTITY"):
        patch.delenv(f"WANDB_{name}", raising=False)
    for name, value in {"ERROR_REPORTING": "false", "BASE_URL": "http://127.0.0.1:9"}.items():
        patch.setenv(f"WANDB_{name}", value)
    for name, value in HURRY.items():
        patch.setenv(name, value)
    patch.setenv("NETRC", str(folder / "netrc"))
    patch.setenv("WANDB_DIR", str(folder))
    forget()
    yield
    forget()


@contextmanager
def answering(patch: pytest.MonkeyPatch) -> Iterator[FakeWandb]:
    """A server, its address and a key for the client; inside `alone`."""
    with serving() as state:
        patch.setenv("WANDB_BASE_URL", state.url)
        patch.setenv("WANDB_API_KEY", KEY)
        yield state
        forget()
    assert not state.unknown


def forget() -> None:
    """Ends the client's service, which keeps the settings and the key that it began with."""
    import wandb
    from wandb.sdk.lib.wbauth import unauthenticate_session

    wandb.teardown()
    unauthenticate_session(update_settings=False)
