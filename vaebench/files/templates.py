"""HTML templates, which are stored beside the modules that render them, and the frame and style that pages share."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent


def templates(folder: Path) -> Environment:
    """The templates of a folder, and the frame of all pages; values are escaped, and missing ones raise an error."""
    loader = FileSystemLoader([folder, HERE])
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.globals["style"] = (HERE / "page.css").read_text(encoding="utf-8")
    return made
