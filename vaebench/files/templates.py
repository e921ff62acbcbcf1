"""HTML templates, which are stored beside the modules that render them, and the style that pages share."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

STYLE = Path(__file__).with_name("page.css")


def templates(folder: Path) -> Environment:
    """The templates of a folder; values are escaped, and missing ones raise an error."""
    loader = FileSystemLoader(folder)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
