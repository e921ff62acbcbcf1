"""Builds a release and tries it as its user would: `make release`.

Wheel and sdist into dist/, checked by twine; then the wheel in an empty environment, where every example of
`vaebench --help` runs at a small budget. Nothing is uploaded and nothing is tagged.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from tools import ROOT, tool

DIST, EMPTY = ROOT / "dist", ROOT / "build" / "release"
ALSO = ("vaebench --version", "vaebench families", "vaebench datasets", "vaebench parts")


def main() -> int:
    version = re.search(r'"(.+)"', (ROOT / "vaebench" / "_version.py").read_text())[1]
    if fault := mismatch(version, tags(), (ROOT / "CHANGELOG.md").read_text(), (ROOT / "CITATION.cff").read_text()):
        print(fault, file=sys.stderr)
        return 1
    wheel = build()
    python = environment(wheel)
    with tempfile.TemporaryDirectory() as folder:
        try_examples(python.parent, Path(folder))
    print(f"vaebench {version}: {', '.join(path.name for path in sorted(DIST.iterdir()))}")
    print(measured(wheel, python))
    return 0


def tags() -> list[str]:
    """The tags of this commit."""
    found = subprocess.run(["git", "tag", "--points-at", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.split()


def mismatch(version: str, tags: list[str], changes: str, citation: str) -> str:
    """Why this commit cannot be released as `version`, empty where it can: a tagged one says the same everywhere."""
    if f"\nversion: {version}\n" not in citation:
        return f"CITATION.cff has another version than vaebench/_version.py, {version}"
    if not tags:
        return ""
    if f"v{version}" not in tags:
        return f"the commit is tagged {', '.join(tags)}: expected v{version}, as vaebench/_version.py has it"
    return "" if f"\n## [{version}]" in changes else f"CHANGELOG.md has no section [{version}]"


def build() -> Path:
    """Wheel and sdist, with metadata that an index takes."""
    shutil.rmtree(DIST, ignore_errors=True)
    subprocess.run([tool("pyproject-build", "build"), "--outdir", DIST, ROOT], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([tool("twine"), "check", "--strict", *DIST.iterdir()], check=True)
    (wheel,) = DIST.glob("*.whl")
    return wheel


def environment(wheel: Path) -> Path:
    """The Python of a new environment that has the wheel, what it needs by the pins, and nothing else."""
    venv.create(EMPTY, with_pip=True, clear=True)
    python = EMPTY / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt"]
    subprocess.run([*pip, wheel], check=True)
    return python


def try_examples(programs: Path, folder: Path) -> None:
    """Runs the examples of `vaebench --help` one after another in a folder beside copies of what they name."""
    for name in ("configs", "sweeps", "results"):
        shutil.copytree(ROOT / name, folder / name)
    surroundings = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    help_text = subprocess.run([programs / "vaebench", "--help"], check=True, capture_output=True, text=True).stdout
    shown = [re.split(" {2,}", line.strip())[0] for line in re.findall(r"^  vaebench .*", help_text, re.MULTILINE)]
    for command in (*ALSO, *shown):
        words = small(shlex.split(command), folder)
        print(f"$ {shlex.join(words)}", flush=True)
        subprocess.run(words, cwd=folder, env=surroundings, check=True, stdout=subprocess.DEVNULL)


def small(words: list[str], folder: Path) -> list[str]:
    """An example at a budget of seconds: one epoch, one seed, the newest checkpoint there is, no search."""
    if words[1] == "bench":
        benchmark = folder / "configs" / "benchmark" / f"{words[2]}.yaml"
        text = re.sub(r"max_epochs: \d+", "max_epochs: 1", benchmark.read_text())
        benchmark.write_text(re.sub(r"seeds: \[.*\]", "seeds: [0]", text))
        return [*words[:2], str(benchmark), "--results", "own"]
    if words[1] == "fit":
        return [*words, "--trainer.max_epochs", "1"]
    if words[1] == "evaluate":
        (checkpoint,) = (folder / "runs").glob("*beta_vae*/model.ckpt")
        return ["vaebench", "evaluate", str(checkpoint), "--protocol", "quick", "--limit", "50"]
    return [*words, "--dry-run"] if words[1] == "sweep" else words


def measured(wheel: Path, python: Path) -> str:
    """What an installation costs: sizes, and how long a first import takes."""
    size = sum(path.stat().st_size for path in (EMPTY / "lib").rglob("*") if path.is_file())
    clock = time.perf_counter()
    subprocess.run([python, "-c", "import vaebench, vaebench.cli; vaebench.build"], check=True)
    return (
        f"wheel {wheel.stat().st_size / 2**20:.1f} MiB, installed with all it needs {size / 2**20:,.0f} MiB, "
        f"import in {time.perf_counter() - clock:.1f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
