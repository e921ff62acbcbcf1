"""A study, from the records' names to the page that is served."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from vaebench.errors import UserError
from vaebench.judging.app import LOOPBACK, application
from vaebench.judging.images import Images, find_runs
from vaebench.judging.plan import Study
from vaebench.judging.store import Judgements
from vaebench.records import read_records
from vaebench.reproduction.find import find_record


def serve(
    records: Sequence[str],
    judgements: Path,
    show: str,
    questions: Sequence[str],
    rounds: int,
    results: Path,
    host: str,
    port: int,
) -> int:
    """Serves the page of a study until it is interrupted, and prints its address.

    Args:
        records: names of records (`find_record`); none goes on with the study in the file.
        judgements: the file of the study.
        show, questions, rounds: what is asked; the file's where no record is named.
        results: folder of records.
        host, port: where to listen. Anywhere but on this machine's loopback the address carries a random token.
    """
    file, images = study(records, judgements, show, questions, rounds, results)
    token = None if _loopback(host) else secrets.token_urlsafe(16)
    app = application(file, images, token, LOOPBACK if token is None else ("*",))
    with _socket(host, port) as listening:
        place = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
        print(f"{place}{f'?token={token}' if token else ''}", flush=True)
        print(f"answers: {judgements}\nshow them: vaebench leaderboard {results} --judgements {judgements}", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run([listening])
    return 0


def study(
    records: Sequence[str], judgements: Path, show: str, questions: Sequence[str], rounds: int, results: Path
) -> tuple[Judgements, Images]:
    """The file of a study, begun or gone on with, and the images that it asks about."""
    file = Judgements(judgements)
    if not records:
        kept = file.study()
        runs = find_runs(read_records(results), kept.runs, results)
        return file, Images(runs, kept.shown, kept.kinds)
    runs = [find_record(name, results) for name in records]
    kinds = tuple(dict.fromkeys(questions))
    images = Images(runs, show, kinds)
    count = min(len(made) for made in images.made)
    digests = tuple(run.digest for run in runs)
    file.start(Study(digests, show, kinds, rounds, secrets.randbits(32), count, len(images.originals)))
    return file, images


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
        listening.listen()  # who comes before the page is up waits
    except (OSError, OverflowError) as error:
        raise UserError(
            f"cannot listen on '{host}' port {port} ({error}): expected an address of this machine and a free port; "
            "give --host or --port"
        ) from None
    return listening
