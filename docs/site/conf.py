"""Sphinx's settings: Markdown by MyST, docstrings by autodoc, and equations as MathML, which needs no script."""

from __future__ import annotations

import inspect
import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

project = "vaebench"
project_copyright = "the vaebench contributors"
html_title = "vaebench"
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
pygments_dark_style = "github-dark"
html_use_index = False  # the search and the contents of each page do better
html_domain_indices = False
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # pages of boards begin at the third level, as the command prints them
default_role = "literal"
html_math_renderer = "mathml"
napoleon_use_ivar = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

CODE = re.compile(r"(``[^`]*``|`[^`]*`)")
MARKUP = re.compile(r"(?!^[*|] )[*|]|(?<=\w)_(?!\w)")  # not a bullet, and not the bar of a block of lines
LETTER = re.compile(
    r"(^|: )(?=\(?[A-Za-z][.)](\s|$))"
)  # of "places: n." and "components: (k) of", which would begin a list
KNOWN = {r"\\arg\b": r"\\operatorname{arg}", r"(\\[bB]ig+)\s*\\(?:\||Vert)": r"\1‖"}  # what the converter lacks
NAME = re.compile(r"(<mi>(?:log|ln|exp|det|tanh|cosh|sinh)</mi>)(?!<mo stretchy)")  # before what has no bracket
LOGGER = logging.getLogger(__name__)


def mathml(tex: str, block: bool, place: nodes.Node) -> str:
    r"""An equation as MathML; what the converter does not know is a warning, and so an error of the build."""
    for command, known in KNOWN.items():
        tex = re.sub(command, known, tex)
    made = convert(tex, display="block" if block else "inline")
    if unknown := re.findall(r">(\\[^<]+)<", made):
        LOGGER.warning("mathematics with unknown %s: %s", ", ".join(unknown), tex, location=place)
    return NAME.sub(r'\1<mspace width="0.17em"/>', made)


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(mathml(node.astext(), False, node))
    raise nodes.SkipNode


def visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="equation">{mathml(node.astext(), True, node)}</div>\n')
    raise nodes.SkipNode


def plain(_: Sphinx, what: str, __: str, ___: object, ____: object, lines: list[str]) -> None:
    """Escapes what docstrings mean literally and reStructuredText takes for markup; equations and code stay."""
    block: int | None = None  # lines deeper than this are an equation or code
    doctest = False
    for i, line in enumerate(lines):
        indent, text = len(line) - len(line.lstrip()), line.strip()
        if text and block is not None and indent <= block:
            block = None
        doctest = bool(text) and (doctest or text.startswith(">>>"))
        if block is None and (text.startswith(".. math::") or text.endswith("::")):
            block = indent
        elif block is None and not doctest:
            text = LETTER.sub(r"\1\\", text)
            lines[i] = line[:indent] + "".join(map(_escaped, CODE.split(text)))
    if what in (
        "attribute",
        "property",
        "data",
    ):  # napoleon takes what stands before a colon in a first line for a type
        lines[:0] = ["..", ""]  # an empty comment


def _escaped(part: str) -> str:
    """A piece of a line; code is set apart from what adjoins it."""
    if CODE.fullmatch(part):
        return f"{part}\\ "
    return MARKUP.sub(r"\\\g<0>", part)


def foreign(_: Sphinx, __: str, ___: str, member: object, ____: bool, _____: object) -> bool | None:
    """Leaves out what a module only imports; autodoc looks at its signature before it sees where it is from."""
    module = inspect.getmodule(member) if inspect.isroutine(member) else None
    return True if module is not None and not module.__name__.startswith("vaebench") else None


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("autodoc-process-docstring", plain, priority=400)  # before napoleon, which writes markup of its own
    app.connect("autodoc-skip-member", foreign)
