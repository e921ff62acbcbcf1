"""Writes docs/notebooks/ from docs/tutorials/, each run from top to bottom, with outputs: all, or those named.

    python docs/notebooks.py [compare collapse ...]

Python blocks are cells. Lines after `$ vaebench` are a cell of the shell, which fails as they do; a block of YAML is a
cell that writes the file which its first line names.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode, v4

from vaebench.files import write_atomically

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
NOTEBOOKS = ROOT / "docs" / "notebooks"
BLOCK = re.compile(r"^```(python|console|yaml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
WIDTH = 84  # of tables in outputs, which pages break where they are wider
OWN = ("first_run", "sweep")  # which make records, and look at those alone
PLACES = {
    True: "import os\nimport tempfile\n\nos.chdir(tempfile.mkdtemp())  # an empty folder, for what is made here",
    False: "%cd -q ../..",
}
HERE = re.compile(rf"{re.escape(str(Path(gettempdir()).resolve()))}/tmp\w+/")
LINK = re.compile(r"\]\((?!\.\.|http)(\w+)\.md\)")  # to another tutorial


def notebook(page: Path) -> NotebookNode:
    """The notebook of a tutorial, without outputs; equal for equal text."""
    cells = [v4.new_code_cell(PLACES[page.stem in OWN]), *_cells(page.read_text(encoding="utf-8"))]
    cells.insert(0, cells.pop(1))  # title and introduction first
    for number, cell in enumerate(cells):
        cell["id"] = f"{page.stem}-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def _cells(text: str) -> Iterator[NotebookNode]:
    end = 0
    for block in BLOCK.finditer(text):
        if prose := text[end : block.start()].strip():
            yield v4.new_markdown_cell(LINK.sub(r"](\1.ipynb)", prose))
        end = block.end()
        yield v4.new_code_cell(_code(block[1], block[2].strip()))
    if prose := text[end:].strip():
        yield v4.new_markdown_cell(LINK.sub(r"](\1.ipynb)", prose))


def _code(kind: str, text: str) -> str:
    if kind == "python":
        return text
    if kind == "yaml":
        first, rest = text.split("\n", 1)
        return f"%%writefile {first.removeprefix('# ')}\n{rest}"
    return "%%sh -e\n" + "\n".join(line.removeprefix("$ ") for line in text.splitlines())


def run(book: NotebookNode) -> NotebookNode:
    """Runs a notebook in a folder with links to what a tutorial reads, and keeps what it prints, but for its place.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with TemporaryDirectory() as place:
        root = Path(place).resolve()
        (root / "docs" / "notebooks").mkdir(parents=True)
        for name in ("results", "configs"):
            (root / name).symlink_to(ROOT / name)
        where = {"metadata": {"path": str(root / "docs" / "notebooks")}}
        client = NotebookClient(book, timeout=600, coalesce_streams=True, resources=where)
        client.execute(env={**os.environ, "PATH": programs, "OMP_NUM_THREADS": "1", "COLUMNS": str(WIDTH)})
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # when it ran
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                output["text"] = HERE.sub("", output["text"])
    return book


def main(names: list[str]) -> None:
    NOTEBOOKS.mkdir(exist_ok=True)
    for page in TUTORIALS:
        if not names or page.stem in names:
            text = f"{nbformat.writes(run(notebook(page)))}\n"
            write_atomically(path := NOTEBOOKS / f"{page.stem}.ipynb", text.encode())
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
