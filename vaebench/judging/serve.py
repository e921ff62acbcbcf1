"""Serves the page of a study."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from vaebench.errors import UserError
from vaebench.judging.app import application
from vaebench.judging.images import PngImages, find_runs
from vaebench.judging.plan import Study
from vaebench.judging.store import Judgements
from vaebench.records import read_records
from vaebench.records.find import find_record


def serve(
    records: Sequence[str],
    judgements: Path,
    show: str,
    questions: Sequence[str],
    rounds: int,
    results: Path,
    host: str,
    port: int,
    name: Sequence[str],
) -> int:
    """Serves the page of a study until it is interrupted, and prints its address.

    Args:
        records: names of records (`find_record`); none resumes the study in the file.
        judgements: the file of the study.
        show, questions, rounds: of the study; from the file where no record is named.
        results: folder of records.
        host, port: to listen on.
        name: further host names of the server, such as a proxy's.
    """
    file, images = study(records, judgements, show, questions, rounds, results)
    token = secrets.token_urlsafe(16)
    app = application(file, images, token, _names(host, name))
    with _socket(host, port) as listening:
        place = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/{token}/"
        print(f"{place}\nanswers: {judgements}", flush=True)
        print(f"show them: vaebench leaderboard {results} --judgements {judgements}", flush=True)
        server(app).run([listening])
    return 0


def server(app: Starlette) -> uvicorn.Server:
    """A plain HTTP server with the parser that the tests attack, which ignores clients' forwarding headers."""
    return uvicorn.Server(
        uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_level="warning", access_log=False,
                       proxy_headers=False, server_header=False)
    )  # fmt: skip


def study(
    records: Sequence[str], judgements: Path, show: str, questions: Sequence[str], rounds: int, results: Path
) -> tuple[Judgements, PngImages]:
    """The file of a new or resumed study, and its images."""
    file = Judgements(judgements)
    if not records:
        kept = file.study()
        images = PngImages(find_runs(read_records(results), kept.runs, results), kept.shown, kept.kinds)
        if kept.images > min(map(len, images.made)) or kept.originals > len(images.originals):
            raise UserError(f"'{judgements}' has more questions than its records have images: expected a study that "
                            "`vaebench judge` wrote; name another file with --judgements")  # fmt: skip
    else:
        runs = [find_record(name, results) for name in records]
        kinds = tuple(dict.fromkeys(questions))
        images = PngImages(runs, show, kinds)
        count = min(len(made) for made in images.made)
        digests = tuple(run.digest for run in runs)
        file.start(Study(digests, show, kinds, rounds, secrets.randbits(32), count, len(images.originals)))
    file.admit()
    return file, images


def _names(host: str, more: Sequence[str]) -> set[str]:
    """Host names of the server; this machine's name only where other machines can reach it."""
    names = {"localhost", host, *more}
    if not _loopback(host):
        machine = socket.gethostname()
        names |= {machine, f"{machine}.local", socket.getfqdn()}
    return {name.lower() for name in names}


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _socket(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()  # early clients wait until the page is up
    except (OSError, OverflowError, ValueError) as error:
        raise UserError(
            f"cannot listen on '{host}' port {port} ({error}): expected an address of this machine and a free port; "
            "give --host or --port"
        ) from None
    return listening
