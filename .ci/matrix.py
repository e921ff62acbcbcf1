"""Tries the oldest and the newest versions that pyproject.toml allows, on every Python that is here: `make matrix`.

Each environment gets vaebench with the oldest versions of what it asks for, or with the newest, and runs the examples
of `vaebench --help` as a release does. `docs/support.md` has the policy.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from release import try_examples
from tools import ROOT, tool

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
RESOLUTIONS = {"oldest": "lowest-direct", "newest": "highest"}
NAMES = ("torch", "lightning", "numpy", "jsonargparse", "optuna")


def main() -> int:
    outcomes = {}
    for python in (name for name in PYTHONS if shutil.which(f"python{name}")):
        for which, resolution in RESOLUTIONS.items():
            outcomes[python, which] = outcome(python, which, resolution)
            print(f"Python {python}, {which}: {outcomes[python, which]}", flush=True)
    if not outcomes:
        print(f"none of the Pythons {', '.join(PYTHONS)} is here", file=sys.stderr)
    return int(not outcomes or any(said.startswith("failed") for said in outcomes.values()))


def outcome(python: str, which: str, resolution: str) -> str:
    """The versions with which the examples ran, or at which command they failed."""
    place = ROOT / "build" / "matrix" / f"{python}-{which}"
    shutil.rmtree(place, ignore_errors=True)
    try:
        subprocess.run([tool("uv"), "venv", "--quiet", "--python", f"python{python}", place], check=True)
        install = [tool("uv"), "pip", "install", "--quiet", "--python", place, "--resolution", resolution, str(ROOT)]
        subprocess.run(install, check=True)
        with tempfile.TemporaryDirectory() as folder:
            try_examples(place / "bin", Path(folder))
    except subprocess.CalledProcessError as error:
        return f"failed at {' '.join(map(str, error.cmd))}"
    code = f"from importlib.metadata import version; print(*(f'{{n}} {{version(n)}}' for n in {NAMES}), sep=', ')"
    return subprocess.run([place / "bin" / "python", "-c", code], capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
