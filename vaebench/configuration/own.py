"""Code of the user's own: imported from the working folder, from files that `--include` names, and from plugins.

None of it is imported before the user has named it: on the command line, in a file of theirs, or from Python. A
checkpoint, record or card names it in vain (`vaebench.configuration.gate`).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from vaebench.errors import UserError, unknown

INCLUDED = "VAEBENCH_INCLUDE"  # the variable by which processes that work for this one include the same files
PLUGINS = "vaebench.plugins"  # the group of entry points, each of a module
HOME = Path(__file__).parents[1]


class _Folder(MetaPathFinder):
    """Finds, after all others, modules in folders that the user has named code of: no namespace but what is named."""

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.named: set[str] = set()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, self.folders) if path is None and self.folders else None
        return spec if spec is not None and (spec.origin is not None or name in self.named) else None


_folder = _Folder()


def _open(folder: Path, name: str) -> None:
    """Lets modules of a folder be imported, for the sake of one of them."""
    if _folder not in sys.meta_path:
        sys.meta_path.append(_folder)
    _folder.named.add(name)
    if (place := str(folder.absolute())) not in _folder.folders:
        _folder.folders.insert(0, place)
        importlib.invalidate_caches()


def include(file: str) -> str:
    """Takes in a file of the user's own: its classes are parts, and its module may be named like any other.

    Args:
        file: a Python file.

    Returns:
        The name of its module.

    Raises:
        UserError: there is no such file, its name is none of a module, or another module has it.
    """
    path = Path(file).expanduser()
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"--include is '{file}': expected a Python file; mend its path")
    name = path.stem
    if not name.isidentifier():
        raise UserError(f"--include is '{file}', whose name is none of a module: expected letters and _; rename it")
    files = included()
    loaded = sys.modules.get(name)
    other = None if name in files else loaded.__spec__ if loaded else _found(name)
    if other is not None and (other.origin is None or Path(other.origin).resolve() != path.resolve()):
        raise UserError(
            f"--include is '{file}', and another module is called '{name}' already ({other.origin}); rename the file"
        )
    if name in files and files[name] != path.resolve():
        raise UserError(f"--include names two files of the name '{name}', {files[name]} and {path}; rename one")
    files[name] = path.resolve()
    os.environ[INCLUDED] = os.pathsep.join(map(str, files.values()))
    _open(path.resolve().parent, name)
    return name


def included() -> dict[str, Path]:
    """The files that were included, by the names of their modules."""
    paths = [Path(text) for text in os.environ.get(INCLUDED, "").split(os.pathsep) if text]
    for path in paths:
        _open(path.parent, path.stem)
    return {path.stem: path for path in paths}


@cache
def plugins() -> dict[str, Path]:
    """The files of the modules that installed packages offer as plugins, by name; none is imported."""
    found: dict[str, Path] = {}
    for point in entry_points(group=PLUGINS):
        top, *rest = point.module.split(".")
        spec = _found(top)
        for folder in (spec.submodule_search_locations or []) if spec and rest else []:
            place = Path(folder, *rest)
            files = [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
            found |= dict.fromkeys([point.module], files[0]) if files else {}
        if spec and not rest and spec.origin:
            found[point.module] = Path(spec.origin)
    return found


def modules() -> dict[str, Path]:
    """The files of included and plugged-in modules by name."""
    return {**plugins(), **included()}


def is_path(text: Any) -> bool:
    """Whether a text may be the path of a class that is neither the suite's nor a library's of its own.

    >>> is_path("my_vae.MyVAE"), is_path("vaebench.families.vae.VAE"), is_path("vamp"), is_path("a.yaml/b")
    (True, False, False, False)
    """
    if not isinstance(text, str) or "." not in text or not all(part.isidentifier() for part in text.split(".")):
        return False
    return text.partition(".")[0] not in ("vaebench", "torch", "lightning", "builtins")


def reach(name: str) -> None:
    """Lets a module be found in the working folder that is found nowhere else; the user has named it, or one of it."""
    top, here = name.partition(".")[0], Path.cwd()
    if not top.isidentifier() or top in sys.modules or _found(top) is not None:
        return
    if (here / f"{top}.py").is_file() or (here / top).is_dir():
        _open(here, top)


def require_class(path: str) -> Any:
    """The class or function at a path that the user has named.

    Raises:
        UserError: its module is not there, cannot be imported, which is said with its own reason, or has no such name.
    """
    included()
    reach(path)
    module, _, name = path.rpartition(".")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise UserError(
                f"there is no module '{error.name}', of which '{path}' was to be taken: looked for in the working "
                "folder, among the files of --include and among what is installed; mend the path"
            ) from error
        raise _broken(path, module, error) from error
    except Exception as error:  # whatever the user's own code raises
        raise _broken(path, module, error) from error
    if name not in vars(found):
        classes = [own for own, value in vars(found).items() if isinstance(value, type) and value.__module__ == module]
        raise unknown("class", path, [f"{module}.{own}" for own in classes], f"They stand in {_file(found) or module}.")
    return vars(found)[name]


def _broken(path: str, module: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(f"'{path}' cannot be used, for '{module}' fails when it is imported ({type(error).__name__}: "
                     f"{reason}{line_of(error)}); mend that module")  # fmt: skip


def line_of(error: Exception) -> str:
    """The innermost line of the user's own code through which an error came, as the end of a sentence; '' for none."""
    if isinstance(error, SyntaxError):
        return f", in line {error.lineno} of '{error.filename}'"
    trace, line = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<frozen") and not Path(file).is_relative_to(HOME) and "importlib" not in file:
            line = f", in line {trace.tb_lineno} of '{file}'"
        trace = trace.tb_next
    return line


def _found(name: str) -> ModuleSpec | None:
    """Where a module at the top is found by others than this module."""
    for finder in sys.meta_path:
        if finder is not _folder and (spec := finder.find_spec(name, None)) is not None:
            return spec
    return None


# Sources ------------------------------------------------------------------------------------------------------------


def texts_in(config: Any) -> Iterator[str]:
    """The texts in a configuration, and the paths of the classes and functions in it."""
    if isinstance(config, str):
        yield config
    elif inspect.isfunction(config) or inspect.isclass(config):
        yield f"{config.__module__}.{config.__qualname__}"
    elif isinstance(config, Mapping | list | tuple):
        for value in config.values() if isinstance(config, Mapping) else config:
            yield from texts_in(value)


_texts: WeakKeyDictionary[ModuleType, tuple[ModuleSpec | None, str]] = WeakKeyDictionary()
"""Of modules as first looked at after an import, with the specification of that import: a reload makes another."""


def sources(config: Any) -> dict[str, str]:
    """The text of every module of the user's own that a configuration names, and of those that these import.

    Installed packages are none: their versions tell them apart. A module counts as it was when it was imported.

    Args:
        config: plain values.

    Returns:
        The texts by the names of the modules, sorted.
    """
    found: dict[str, str] = {}
    waiting = [path.rpartition(".")[0] for path in filter(is_path, texts_in(config))]
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        if name in found or module is None or not _is_own(module):
            continue
        spec, text = _texts.get(module, (None, ""))
        if spec is None or spec is not module.__spec__:
            text = Path(str(_file(module))).read_text(encoding="utf-8")
            _texts[module] = (module.__spec__, text)
        found[name] = text
        waiting += [*_imported(found[name], module), name.rpartition(".")[0]]
    return dict(sorted(found.items()))


def hashed(texts: Mapping[str, str]) -> dict[str, str]:
    """SHA-256 of each text, 64 hex digits."""
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def as_json(texts: Mapping[str, str]) -> dict[str, str]:
    """Each text as a JSON string, in which every character is printable."""
    return {name: json.dumps(text) for name, text in texts.items()}


def require_sources(config: Mapping[str, Any], of: object) -> None:
    """Refuses to build a run that was made with other code of the user's own than is here.

    Args:
        config: of the run, whose classes are imported; under 'sources' it has the SHA-256 of every module, if any.
        of: the checkpoint or record, for the error.

    Raises:
        UserError: a module has another text, or is a user's own here or there alone.
    """
    known = config.get("sources") or {}
    found = hashed(sources({name: value for name, value in config.items() if name != "sources"}))
    if wrong := next((name for name in sorted({*known, *found}) if known.get(name) != found.get(name)), None):
        raise UserError(
            f"the module '{wrong}' is not the one that '{of}' was made with: expected the text of SHA-256 "
            f"{known.get(wrong, 'none')[:16]}… and found {found.get(wrong, 'none')[:16]}…; take the text that a record "
            "of it has under sources, or train a run of its own"
        )


def _file(module: ModuleType) -> str | None:
    spec = module.__spec__
    return spec.origin if spec is not None else None


@cache
def _libraries() -> tuple[Path, ...]:
    return tuple(
        {Path(path).resolve() for name, path in sysconfig.get_paths().items() if name.endswith(("lib", "stdlib"))}
    )


def _is_own(module: ModuleType) -> bool:
    """Whether a module is a Python file outside the suite, the standard library and what is installed."""
    file = _file(module)
    if file is None or not file.endswith(".py") or not Path(file).is_file():
        return False
    path = Path(file).resolve()
    if path.is_relative_to(HOME) or {"site-packages", "dist-packages"} & set(path.parts):
        return False
    return not any(path.is_relative_to(library) for library in _libraries())


def _imported(text: str, module: ModuleType) -> Iterable[str]:
    """The modules that a module may import, inside functions too."""
    package = module.__name__ if module.__spec__ and module.__spec__.submodule_search_locations else module.__package__
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level and package:
                base = importlib.util.resolve_name("." * node.level + base, package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
