"""The classes that a configuration can name: their kinds, canonical names, short names and paths.

They are discovered by reading the source, one folder or file for each kind, without importing it. The canonical name of
a class, 'kind:Class' ('prior:VampPrior'), does not depend on its module. A run's identity uses canonical names, so that
moving a class to another module keeps the ids of runs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from vaebench.configuration import own
from vaebench.configuration.class_source import (
    ClassSource,
    classes_in,
    declared_texts,
    is_complete,
    lineage,
    takes_only,
)
from vaebench.configuration.part_kinds import KINDS, TORCH, learning_key

PACKAGE = Path(__file__).parents[1]
MOST = 10_000  # names that are remembered; a stranger's file may hold any number


class Part(NamedTuple):
    """A class of the suite.

    Attributes:
        kind: one of `KINDS`.
        name: of the class.
        path: its class path, 'vaebench.priors.vamp.VampPrior'.
        doc: its docstring, '' without one.
        also: further names that the class declares, such as an acronym.
        choosable: whether a configuration may choose it: it is not abstract, and has a constructor like its kind.
        places: settings of a data set that say where its images are, as its `PLACES` has them.
    """

    kind: str
    name: str
    path: str
    doc: str
    also: tuple[str, ...]
    choosable: bool
    places: tuple[str, ...] = ()

    @property
    def canonical(self) -> str:
        """Its name in a run's identity, 'prior:VampPrior'."""
        return f"{self.kind}:{self.name}"

    @property
    def names(self) -> set[str]:
        """All its names in lower case without '_' and '-': 'vampprior' and 'vamp' of VampPrior."""
        whole = [plain_name(name) for name in (self.name, *self.also)]
        short = [name.removesuffix(end) for name in whole for end in KINDS[self.kind].suffixes]
        return {name for name in (*whole, *short) if len(name) > 1}

    @property
    def listed(self) -> str:
        """The name in lists: that of the file for a family or a data set, of the class otherwise."""
        return name_of(self.path) if self.kind in ("family", "data set") else self.name

    @property
    def short(self) -> tuple[str, ...]:
        """Other names in configurations, besides that of the class in any case."""
        plainly = sorted(self.names - {plain_name(name) for name in (self.name, self.listed, *self.also)})
        return (*self.also, *(name for name in plainly if find_part(self.kind, name) == self))


def name_of(cls: type | str) -> str:
    """The name of a family or a data set by its class or class path: that of its file, or of a user's own class.

    >>> name_of("vaebench.families.beta_vae.BetaVAE"), name_of("mine.MyVAE")
    ('beta_vae', 'MyVAE')
    """
    path = cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__name__}"
    return path.split(".")[-2 if path.startswith("vaebench.") else -1]


def plain_name(name: str) -> str:
    """A name without its case, '_' and '-': 'FullGaussian', 'full_gaussian' and 'full-gaussian' are one name."""
    return re.sub("[_-]", "", name).lower()


@cache
def index(package: Path = PACKAGE) -> tuple[Part, ...]:
    """Every public class of every kind below `package`, sorted by kind and listed name."""
    every = [part for kind in KINDS for part in _parts(package, kind)]
    return tuple(sorted(every, key=lambda part: (list(KINDS).index(part.kind), part.listed.lower())))


def own_parts() -> tuple[Part, ...]:
    """The classes of the user's own in included files and plugins, which are read and not imported."""
    return _own_parts(tuple(own.modules().items()))


@cache
def _own_parts(modules: tuple[tuple[str, Path], ...]) -> tuple[Part, ...]:
    return tuple(part for module, file in modules for kind in KINDS for part in _parts_of(module, file, kind))


@cache
def torch_parts() -> tuple[Part, ...]:
    """The supported classes of torch."""
    return tuple(
        Part(kind, name, f"{module}.{name}", doc, (), True)
        for kind, (module, known) in TORCH.items()
        for name, doc in known.items()
    )


def of_kind(kind: str) -> dict[str, Part]:
    """The classes of a kind that a configuration may choose, by name; the user's own go before the suite's."""
    return dict(_of_kind(kind, own_parts()))


@cache
def _of_kind(kind: str, theirs: tuple[Part, ...]) -> dict[str, Part]:
    known = (*torch_parts(), *index(), *theirs)
    choices = {part.name: part for part in known if part.kind == kind and part.choosable}
    return dict(sorted(choices.items(), key=lambda item: item[1].listed.lower()))


def find_part(kind: str, name: str) -> Part | None:
    """The class of a kind by a class name, short name or class path, in any case; None for an unknown name.

    A class path of a module that no longer exists, as in old records, resolves to the class of that name.
    """
    return part_at(name) if "." in name else _called(kind, name, own_parts())


@lru_cache(maxsize=MOST)
def _called(kind: str, name: str, theirs: tuple[Part, ...]) -> Part | None:
    known = _of_kind(kind, theirs)
    if name in known:
        return known[name]
    near = [part for part in known.values() if plain_name(name) in part.names]
    whole = [
        part for part in near if plain_name(name) in {plain_name(n) for n in (part.name, *part.also)}
    ]  # before short ones
    return next((matches[0] for matches in (whole, near) if len(matches) == 1), None)


@lru_cache(maxsize=MOST)
def part_at(path: str, package: Path = PACKAGE) -> Part | None:
    """The class of the suite at a class path; None where there is none.

    The class's name suffices below the folder of its kind, or where that folder no longer exists, so that class paths
    in old records still resolve. Families and data sets are named after their files, so an existing file with another
    class does not resolve.

    >>> part_at("vaebench.priors.vamp.VampPrior").canonical, part_at("vaebench.priors.VampPrior").canonical
    ('prior:VampPrior', 'prior:VampPrior')
    >>> part_at("os.system"), part_at("vaebench.priors.vamp.os")
    (None, None)
    """
    first, *folders, name = path.split(".") if "." in path else ("", "")
    if first == "torch":
        return next((part for part in torch_parts() if path in (part.path, _defined(part))), None)
    if first != "vaebench":
        return None
    named = [part for part in index(package) if part.name == name]
    matches = [part for part in named if part.path == path]
    if not matches and folders:
        matches = [part for part in named if folders[0] == KINDS[part.kind].folder]
        if not matches and not _is_module(package, folders[:1]):
            matches = named
        if _is_module(package, folders):
            matches = [part for part in matches if part.kind not in ("family", "data set")]
    return matches[0] if len(matches) == 1 else None


def _defined(part: Part) -> str:
    """Where torch defines an optimiser, 'torch.optim.adamw.AdamW'."""
    module, _, name = part.path.rpartition(".")
    return f"{module}.{name.lower()}.{name}"


def _is_module(package: Path, names: list[str]) -> bool:
    place = package.joinpath(*names)
    return place.is_dir() or place.with_suffix(".py").is_file()


def canonical_config(config: Any, package: Path = PACKAGE) -> Any:
    """A configuration with canonical names of the suite's classes, and class paths of all others.

    Settings that are None are left out, so that a new setting with default None does not change ids. So is where the
    images of a data set are, whose hashes are part of a run's identity.

    >>> canonical_config({"prior": {"class_path": "vaebench.priors.vamp.VampPrior", "init_args": {"components": 5}}})
    {'prior': {'class_path': 'prior:VampPrior', 'init_args': {'components': 5}}}
    """
    if isinstance(config, Mapping):
        config = placeless(config, package)
        items = {key: canonical_config(value, package) for key, value in config.items() if value is not None}
        return {key: value for key, value in items.items() if "class_path" not in items or key == "class_path" or value}
    if isinstance(config, list | tuple):
        return [canonical_config(value, package) for value in config]
    part = part_at(config, package) if isinstance(config, str) else None
    return part.canonical if part else config


def placeless(config: Mapping[str, Any], package: Path = PACKAGE) -> Mapping[str, Any]:
    """A class with its settings, without those that say where a data set's images lie; any other table as it is."""
    path, arguments = config.get("class_path"), config.get("init_args")
    part = part_at(path, package) if isinstance(path, str) else None
    if part is None or not part.places or not isinstance(arguments, Mapping):
        return config
    return {**config, "init_args": {key: value for key, value in arguments.items() if key not in part.places}}


@cache
def part_arguments() -> dict[str, str]:
    """Kinds of the arguments that take a part, by the arguments' names: {'prior': 'prior', 'net': 'network', …}."""
    kinds = {"model": "family", "data": "data set"} | {kind: kind for kind in TORCH}
    for folder in dict.fromkeys(kind.folder for kind in KINDS.values()):
        for source in classes_in(PACKAGE, folder).values():
            for name, annotation in source.arguments:
                word = [word for word in re.findall(r"\w+", annotation) if word != "None"][-1:]
                kind = next((kind for kind, about in KINDS.items() if set(word) & set(about.types)), None)
                kinds |= {name: kind} if kind else {}
    return kinds


def kind_of(key: str) -> str:
    """The kind of part that an argument of that name takes; '' for other arguments."""
    return part_arguments().get(key) or learning_key(key)


def located(config: Any, kind: str = "") -> Any:
    """A configuration with names of parts replaced by class paths.

    Args:
        config: a table of settings, a class with its settings, a name or any other value.
        kind: of a name; default: none, until a key in `part_arguments` determines it.

    >>> located({"prior": "vamp", "schedule": {"class_path": "linear"}, "measure": "binary"})["prior"]
    'vaebench.priors.vamp.VampPrior'
    """
    if isinstance(config, Mapping):
        return {key: located(value, kind if key == "class_path" else kind_of(key)) for key, value in config.items()}
    if isinstance(config, str) and (part := find_part(kind, config)):
        return part.path
    return config


def misplaced(config: Any) -> tuple[str, Part] | None:
    """The first part of a wrong kind in the settings of a class, with the expected kind."""
    if not isinstance(config, Mapping) or part_at(str(config.get("class_path"))) is None:
        return None
    for key, value in (config.get("init_args") or {}).items():
        named = value.get("class_path") if isinstance(value, Mapping) else value
        part, kind = part_at(named) if isinstance(named, str) else None, part_arguments().get(key)
        if part and kind and part.kind != kind:
            return kind, part
        if inner := misplaced(value):
            return inner
    return None


def _parts(package: Path, name: str) -> Iterator[Part]:
    known = classes_in(package, KINDS[name].folder)
    yield from _described(name, KINDS[name].bases, known, known)


def _parts_of(module: str, file: Path, name: str) -> Iterator[Part]:
    """The classes of a kind in a file of the user's own; those that derive from zuko alone might be of two kinds."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return  # whoever imports it says what is wrong
    classes = {node.name: ClassSource(node, module) for node in tree.body if isinstance(node, ast.ClassDef)}
    bases = tuple(base for base in KINDS[name].bases if base != "LazyDistribution")
    yield from _described(name, bases, classes, {**classes_in(PACKAGE, KINDS[name].folder), **classes})


def _described(
    name: str, bases: tuple[str, ...], wanted: Mapping[str, ClassSource], classes: Mapping[str, ClassSource]
) -> Iterator[Part]:
    """The parts of a kind among the `wanted` of some classes."""
    kind = KINDS[name]
    for cls, source in wanted.items():
        ancestry = list(lineage(cls, classes))
        if cls[0] == "_" or cls in bases or not set(ancestry) & set(bases):
            continue
        above = [classes[one] for one in ancestry if one in classes]
        yield Part(
            name,
            cls,
            f"{source.module}.{cls}",
            ast.get_docstring(source.node) or "",
            declared_texts(source.node, "ALSO"),
            is_complete(ancestry, above) and takes_only(above, kind.given),
            declared_texts(source.node, "PLACES"),
        )
