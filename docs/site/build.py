"""Builds the site of docs/ into a folder that needs no network: `make docs`.

    python docs/site/build.py [--out build/site]

The pages of docs/ are copied with their links turned to where things stand on the site; pages of families and of the
reference are made from classes, configurations and records. Sphinx's warnings are errors. Needs the extra `docs`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from pages import family_pages, reference_pages
from sphinx.cmd.build import build_main

from vaebench.leaderboard import presented, ranked

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
BOARDS = '\n<p><a href="boards/leaderboard.html">All boards as one page</a>, to sort, filter and look at.</p>\n'
BESIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}


def navigation() -> dict[str, list[str]]:
    """Names of pages of docs/, without their ending, by section."""
    return yaml.safe_load((HERE / "navigation.yaml").read_text(encoding="utf-8"))


def stage(source: Path) -> None:
    """Writes all that Sphinx reads: pages, figures, files that pages link, settings."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(DOCS / "figures", source / "figures")
    shutil.copytree(HERE / "static", source / "static")
    shutil.copy(HERE / "conf.py", source)
    for names in navigation().values():
        for name in names:
            write(source, f"{name}.md", linked(DOCS / f"{name}.md", source) + (BOARDS if name == "results" else ""))
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        write(source, BESIDE[name], linked(ROOT / name, source))
    records, boards = ranked(ROOT / "results", None, None, False)
    families = dict(family_pages(boards, source))
    reference = dict(reference_pages())
    for path, text in {**families, **reference}.items():
        write(source, path, text)
    write(source, "index.md", "".join((linked(ROOT / "README.md", source), BOARDS, *contents(families, reference))))
    presented(records, boards, source / "boards" / "leaderboard.html")


def contents(families: dict[str, str], reference: dict[str, str]) -> Iterator[str]:
    """The tables of contents that make the navigation; not shown on the front page itself."""
    sections = {
        **navigation(),
        "Families": sorted(path.removesuffix(".md") for path in families),
        "Reference": [path.removesuffix(".md") for path in reference],
        "Project": ["contributing", "changelog"],
    }
    for caption, names in sections.items():
        if names:
            body = "\n".join(names)
            yield f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n:maxdepth: 1\n\n{body}\n```\n"


def linked(page: Path, source: Path) -> str:
    """The text of a page with links that hold on the site, and names of pages for those of their files.

    Files of the repository that it links are copied there.
    """

    def renewed(found: re.Match[str]) -> str:
        picture, label, target = found.groups()
        path, _, anchor = target.partition("#")
        if ":" in path or not path:
            return found[0]
        place = (page.parent / path).resolve()
        relative = place.relative_to(ROOT)
        if place.is_dir():
            return label
        if place.is_relative_to(DOCS) and place.suffix == ".md":
            path = place.relative_to(DOCS).as_posix()
            label = title(place) if label in (place.name, f"docs/{path}") else label
        elif str(relative) in BESIDE:
            path = BESIDE[str(relative)]
        elif place.is_relative_to(DOCS / "figures"):
            path = f"figures/{place.name}"
        else:
            path = f"files/{relative}{'.txt' if place.suffix == '.md' else ''}"
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(place, source / path)
        return f"{picture}[{label}](/{path}{'#' + anchor if anchor else ''})"

    pieces = re.split(r"(```.*?```)", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return "".join(piece if piece.startswith("```") else LINK.sub(renewed, piece) for piece in pieces)


def title(page: Path) -> str:
    """Its heading, up to a colon: what a page is called where a link names its file."""
    heading, _ = page.read_text(encoding="utf-8").split("\n", 1)
    return heading.removeprefix("# ").partition(":")[0]


def write(source: Path, path: str, text: str) -> None:
    (source / path).parent.mkdir(parents=True, exist_ok=True)
    (source / path).write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="folder of the site")
    out = parser.parse_args().out
    source = out.with_name(f"{out.name}-source")
    stage(source)
    shutil.rmtree(out, ignore_errors=True)
    code = build_main(
        ["-q", "-W", "--keep-going", "-d", str(source / ".doctrees"), "-b", "html", str(source), str(out)]
    )
    shutil.copytree(source / "boards", out / "boards")
    print(f"Site: {(out / 'index.html').resolve()}" if code == 0 else "The warnings above are errors.")
    return code


if __name__ == "__main__":
    sys.exit(main())
