"""Audits and locks the dependencies, with tools in an environment of their own, and gets the one that npm has."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
PINS, LOCK, TOOLS = ROOT / "constraints.txt", ROOT / "requirements.lock", ROOT / "build" / "tools"
HEAD = """\
# Every pin of constraints.txt but torch, with the SHA-256 of each of its archives in the public index, for who wants
# downloads to be checked. Written by `make lock`; do not edit.
#
#     python -m pip install --require-hashes --no-deps -r requirements.lock
#     python -m pip install -c constraints.txt torch     # its archive, and what it needs, differ from device to device
#     python -m pip install --no-deps -e .
#
# torch has no hash here: builds for the CPU, for CUDA and for ROCm come from different places under one version number.
"""


def tool(name: str, package: str | None = None) -> Path:
    """A tool's program, installed on first use.

    Args:
        name: of the program.
        package: that has it, where it is called otherwise.

    Raises:
        OSError, subprocess.SubprocessError: it could not be installed.
    """
    program = TOOLS / "bin" / name
    if not program.exists():
        if not TOOLS.exists():
            venv.create(TOOLS, with_pip=True)
        install = [TOOLS / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, package or name], check=True, capture_output=True, timeout=600)
    return program


def verdict(report: str, pins: int) -> tuple[int | None, str]:
    """What a report of pip-audit says: 0 for no known hole, 1 for some, None where it could not be had; and a sentence.

    pip-audit itself says "No known vulnerabilities found" where it found none of the packages.
    """
    try:
        found = json.loads(report)["dependencies"]
        skipped = [entry["name"] for entry in found if "skip_reason" in entry]
        holes = [
            f"{entry['name']} {entry['version']}: {hole['id']} ({', '.join(hole['fix_versions']) or 'no fix'})"
            for entry in found
            for hole in entry.get("vulns", [])
        ]
    except (ValueError, KeyError, TypeError):
        return None, "not audited: pip-audit could not reach its data"
    if holes:
        return 1, "\n".join(["known holes, with the versions that mend them:", *holes])
    if skipped or len(found) < pins:
        return None, f"not audited: pip-audit's data had {len(found) - len(skipped)} of the {pins} packages"
    return 0, f"no known hole in {pins} packages"


def audit() -> int:
    """Looks up every pin; what could not be looked up is a failure in CI only."""
    try:
        command = [tool("pip-audit"), "--requirement", PINS, "--no-deps", "--disable-pip", "--format", "json"]
        ran = subprocess.run([*command, "--progress-spinner", "off"], capture_output=True, text=True, timeout=600)
        code, sentence = verdict(ran.stdout, len(PINS.read_text().split()))
    except (OSError, subprocess.SubprocessError) as error:
        code, sentence = None, f"not audited: pip-audit could not be installed and run ({type(error).__name__})"
    print(sentence)
    return int(bool(os.environ.get("CI"))) if code is None else code


def lock() -> int:
    """Writes requirements.lock from constraints.txt."""
    pins = "".join(line for line in PINS.read_text().splitlines(keepends=True) if not line.startswith("torch=="))
    command = [tool("uv"), "pip", "compile", "--quiet", "--no-config", "--no-deps", "--generate-hashes", "--no-header",
               "--no-annotate", "--python-version", "3.11", "-"]  # fmt: skip
    ran = subprocess.run(command, input=pins, capture_output=True, text=True, timeout=600)
    if ran.returncode or re.search("://|^--", ran.stdout, re.MULTILINE):
        print(f"requirements.lock was not written: {ran.stderr.strip() or 'an address in it'}", file=sys.stderr)
        return 1
    partial = LOCK.with_suffix(".partial")
    partial.write_text(HEAD + ran.stdout)
    partial.replace(LOCK)
    return 0


def runtime() -> int:
    """Puts the files of onnxruntime-web that the explorer's pages take into build/, where their tests look for them."""
    source = (ROOT / "vaebench" / "running" / "explore.py").read_text()
    version, names = re.search(r"@([\d.]+)/", source)[1], re.findall(r'File\("([^"]+)"', source)
    place = ROOT / "build" / "onnxruntime-web"
    if all((place / name).is_file() for name in names):
        return 0
    try:
        with tempfile.TemporaryDirectory() as folder:
            pack = ["npm", "pack", "--silent", "--pack-destination", folder, f"onnxruntime-web@{version}"]
            subprocess.run(pack, check=True, capture_output=True, timeout=600)
            place.mkdir(parents=True, exist_ok=True)
            with tarfile.open(next(Path(folder).glob("*.tgz"))) as packed:
                for name in names:
                    with packed.extractfile(f"package/dist/{name}") as found, (place / name).open("wb") as file:
                        shutil.copyfileobj(found, file)
    except (OSError, subprocess.SubprocessError) as error:
        print(
            f"onnxruntime-web could not be had from npm ({type(error).__name__}); tests will say that they did not run"
        )
    return 0


if __name__ == "__main__":
    sys.exit({"audit": audit, "lock": lock, "runtime": runtime}[sys.argv[1]]())
