"""Classes as their source defines them, read without importing anything."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple


def last_word(node: ast.expr) -> str:
    """The last word of a name in the source, 'Network' of `networks.Network`; '' for other expressions."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


class ClassSource(NamedTuple):
    """A class in the source: its definition and the module's dotted name."""

    node: ast.ClassDef
    module: str

    @property
    def bases(self) -> list[str]:
        return [last_word(base) for base in self.node.bases]

    @property
    def methods(self) -> dict[str, ast.FunctionDef]:
        return {item.name: item for item in self.node.body if isinstance(item, ast.FunctionDef)}

    @property
    def arguments(self) -> list[tuple[str, str]]:
        """Names and annotations of the constructor's arguments."""
        constructor = self.methods.get("__init__")
        named = constructor.args.args if constructor else []
        return [(argument.arg, ast.unparse(argument.annotation)) for argument in named if argument.annotation]


@cache
def classes_in(package: Path, folder: str) -> dict[str, ClassSource]:
    """Every class at the top level of a folder's modules, by name."""
    place = package / folder
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    classes: dict[str, ClassSource] = {}
    for file in files:
        module = ".".join(["vaebench", *file.relative_to(package).with_suffix("").parts]).removesuffix(".__init__")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        classes |= {node.name: ClassSource(node, module) for node in tree.body if isinstance(node, ast.ClassDef)}
    return classes


def lineage(name: str, classes: Mapping[str, ClassSource]) -> Iterator[str]:
    """A class and its ancestors, the nearest first; ancestors from other folders by name only."""
    yield name
    for base in classes[name].bases if name in classes else ():
        yield from lineage(base, classes)


ABSTRACT = {"LazyDistribution": "forward", "Family": "step", "ImageData": "raw"}  # of bases in other folders


def is_complete(lineage: Iterable[str], above: Iterable[ClassSource]) -> bool:
    """Whether no abstract method is left."""
    wanted = {ABSTRACT[cls] for cls in lineage if cls in ABSTRACT}
    written: set[str] = set()
    for source in above:
        for name, method in source.methods.items():
            abstract = any(last_word(mark) == "abstractmethod" for mark in method.decorator_list)
            (wanted if abstract else written).add(name)
    return wanted <= written


def takes_only(above: Iterable[ClassSource], given: tuple[str, ...]) -> bool:
    """Whether the nearest constructor requires no arguments but those given to its kind."""
    constructor = next((s.methods["__init__"] for s in above if "__init__" in s.methods), None)
    if not given or constructor is None:
        return not given
    names = [argument.arg for argument in constructor.args.args[1:]]
    needed = names[: len(names) - len(constructor.args.defaults)]
    return bool(needed) and set(needed) <= set(given)


def declared_texts(node: ast.ClassDef, name: str) -> tuple[str, ...]:
    """The value that a class gives an attribute, a tuple of texts; () where it gives none."""
    for item in node.body:
        if isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None:
            targets = item.targets if isinstance(item, ast.Assign) else [item.target]
            if any(last_word(target) == name for target in targets):
                return tuple(ast.literal_eval(item.value))
    return ()
