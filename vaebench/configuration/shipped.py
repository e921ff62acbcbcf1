"""Files that come with the suite, found by name from anywhere: configurations, benchmarks and sweeps.

A checkout has them beside the package, as `configs/` and `sweeps/`; a wheel has them inside it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from vaebench.configuration.parts import PACKAGE, find_part
from vaebench.errors import UserError, unknown

FOLDERS = ("configs", "sweeps")
SEARCHED = {"configuration file": ("configs",), "benchmark file": ("configs/benchmark", "configs/repeat", "configs"),
            "sweep file": ("sweeps",), "family": ("configs/family",)}  # fmt: skip
"""Below which folders a name of each kind of file is looked for, the first before the others."""


@cache
def shipped() -> dict[str, Path]:
    """All files by name: the path below the root without its ending, 'configs/family/vae' and 'sweeps/beta'."""
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        root = next(root for root in (PACKAGE, PACKAGE.parent) if (root / folder).is_dir())
        found |= {path.relative_to(root).with_suffix("").as_posix(): path for path in (root / folder).rglob("*.yaml")}
    return dict(sorted(found.items()))


def find_shipped(name: str, kind: str) -> Path | None:
    """The file of a kind that a name means; None where there is none.

    Args:
        name: 'family/vamp_vae', 'beta' or, as in a checkout, 'configs/family/vamp_vae.yaml'.
        kind: one of `SEARCHED`.
    """
    plain = name.removesuffix(".yaml")
    folders = [] if plain.startswith("/") else SEARCHED[kind]
    return next((found for place in ("", *(f"{f}/" for f in folders)) if (found := shipped().get(f"{place}{plain}"))),
                None)  # fmt: skip


def combination(name: str) -> Path | None:
    """The file below `configs/family` of a name that is no family's; None where there is none."""
    return None if find_part("family", name) else find_shipped(name, "family")


def shipped_names(kind: str) -> list[str]:
    """Names of the files of a kind, as `find_shipped` takes them."""
    folder = f"{SEARCHED[kind][0]}/"
    return [name.removeprefix(folder) for name in shipped() if name.startswith(folder)]


def find_file(name: str | Path, kind: str) -> Path:
    """A file that a command names: one of the user's own by its path, or one of the suite's by its name.

    Raises:
        UserError: there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    if kind in SEARCHED and (found := find_shipped(str(name), kind)) is not None:
        return found
    raise unknown_file(str(name), kind, [str(near) for near in sorted(path.parent.glob("*.yaml"))])


def unknown_file(name: str, kind: str, near: list[str]) -> UserError:
    """The error for a name of a file that is neither the user's nor the suite's.

    Args:
        name: as it was given.
        kind: of the file.
        near: files where it was looked for.
    """
    if kind not in SEARCHED:
        return unknown(kind, name, near)
    remedy = "" if near else "`vaebench configs` lists those of the suite; a file of yours is given by its path."
    return unknown(kind, name, [*near, *shipped_names(kind)], remedy)
