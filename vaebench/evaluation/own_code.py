"""Code of the user's own in a protocol: measurements and networks of features by the paths of classes or functions.

A path is 'module.Name' or 'module:name'. None is imported before the user has named it: on the command line
(`--include`, `--trust`), from Python, or in a file of a benchmark or sweep. A protocol's file and
a record name it in vain.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from vaebench.configuration import own
from vaebench.configuration.discovery import measurement_of
from vaebench.configuration.registered import in_registered_module, is_registered, trust
from vaebench.errors import Unavailable, UserError, absence, unknown
from vaebench.evaluation.metrics import FAILURES, Findings, MetricKind
from vaebench.evaluation.subject import Subject

SOURCES = "sources"  # of a measurement's settings: SHA-256 of the user's own modules that it runs
KEYS = ("class_path", "init_args", "unit", "higher_is_better")
EXPECTED = "a class with KINDS and measure(subject, findings), or a function of a model and images"


class OwnMeasurement(NamedTuple):
    """A measurement of the user's own, as one of the suite's modules.

    Attributes:
        KINDS: of the metrics that it can give.
        LABELLED: whether it supports conditional models.
        run: the measurement.
    """

    KINDS: Mapping[str, MetricKind]
    LABELLED: bool
    run: Callable[[Subject, Findings], None]

    def measure(self, subject: Subject, findings: Findings, **_: Any) -> None:
        """Runs it.

        Raises:
            UserError: its code fails.
        """
        self.run(subject, findings)


def path_of(text: Any) -> str | None:
    """The path of a class or function of the user's own, with dots; None for any other value.

    >>> path_of("mine:sharpness"), path_of("mine.Sharpness"), path_of("inception"), path_of(3)
    ('mine.sharpness', 'mine.Sharpness', None, None)
    """
    dotted = text.replace(":", ".") if isinstance(text, str) and text.count(":") <= 1 else None
    return dotted if own.is_path(dotted) else None


def paths(settings: Any) -> list[str]:
    """The paths of the user's own code in the settings of measurements."""
    return [path for text in own.texts_in(settings) if (path := path_of(text))]


def remember(settings: Any) -> None:
    """Lets the code run that the user names here."""
    trust(*paths(settings))


def require_named(settings: Any, source: object) -> None:
    """Refuses code of which nobody but a file speaks.

    Args:
        settings: of measurements.
        source: the file or record, for the error.

    Raises:
        UserError: a path in them is neither the user's word nor of a plugin.
    """
    for path in paths(settings):
        named = is_registered(path) or path.rpartition(".")[0] in own.plugins()
        if not named and in_registered_module(path) is None:
            raise UserError(
                f"'{source}' has the code '{path}', which is not run because a file says so: expected it to be named "
                f"beside the command; where you have read it, add --include with its file, or --trust {path}"
            )


def texts(settings: Any) -> dict[str, str]:
    """The texts of the modules of the user's own that measurements run, by name; they are imported."""
    found = paths(settings)
    for path in found:
        own.require_class(path)
    return own.sources(found)


def hashes(settings: Any) -> dict[str, dict[str, str]]:
    """{"sources": SHA-256 by the names of those modules}; nothing where there are none."""
    known = own.hashed(texts(settings))
    return {SOURCES: known} if known else {}


def own_settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The checked settings of a measurement of the user's own, without its sources.

    Raises:
        UserError: a key that there is none of, no path, or settings that are no table.
    """
    for key in given:
        if key not in (*KEYS, SOURCES):
            raise unknown(
                "key", str(key), KEYS, f"It is given to the measurement '{name}'; settings are its init_args."
            )
    path = path_of(given["class_path"])
    if path is None:
        raise UserError(f"{name}.class_path is {given['class_path']!r}: expected {EXPECTED}, as mymodule.MyMetric or "
                        "mymodule:function; mend it")  # fmt: skip
    init_args = given.get("init_args") or {}
    if not isinstance(init_args, Mapping):
        raise UserError(f"{name}.init_args is {init_args!r}: expected a table of settings; give one")
    unit, higher = given.get("unit", ""), given.get("higher_is_better")
    if not isinstance(unit, str) or not isinstance(higher, bool | None):
        raise UserError(f"{name} has the unit {unit!r} and higher_is_better {higher!r}: expected a text, and true, "
                        "false or null; mend them")  # fmt: skip
    settings = {"class_path": path, "init_args": dict(init_args)}
    return settings | {key: given[key] for key in KEYS[2:] if given.get(key) not in (None, "")}


def own_measurement(name: str, settings: Mapping[str, Any]) -> OwnMeasurement:
    """The measurement of the user's own behind checked settings, whose code the user has named.

    Raises:
        UserError: it is no measurement, cannot be built, or a metric of its has the name of one of the suite's.
    """
    path, init_args = settings["class_path"], settings["init_args"]
    found = own.require_class(path)
    if inspect.isclass(found):
        made = guarded(path, lambda: found(**init_args))
        kinds, measure = _members(made)
        if not callable(measure) or not isinstance(kinds, Mapping) or not _are_kinds(kinds):
            raise UserError(
                f"'{path}' is no measurement: expected {EXPECTED} (docs/your-family.md); add what is missing"
            )
        run, labelled = measure, bool(vars(found).get("LABELLED", False))
    elif callable(found):
        text = (inspect.getdoc(found) or f"what {path} gives").partition("\n")[0].replace("{", "{{").replace("}", "}}")
        kinds = {name: MetricKind(settings.get("unit", ""), settings.get("higher_is_better"), text)}
        run, labelled = _averaged(name, path, found, init_args), True
    else:
        raise UserError(f"'{path}' is a {type(found).__name__}: expected {EXPECTED}; name another")
    if taken := [kind for kind in kinds if measurement_of(kind) is not None]:
        raise UserError(
            f"'{path}' gives a metric '{taken[0]}', which is read as one of the suite's own: expected another name, so "
            "that nobody takes one for the other; rename it"
        )
    return OwnMeasurement(kinds, labelled, lambda subject, findings: guarded(path, lambda: run(subject, findings)))


def built(path: str) -> Any:
    """What a function or class of the user's own, which the user has named, gives when it is called without arguments.

    Raises:
        UserError: it fails.
    """
    return guarded(path, own.require_class(path))


def _members(made: Any) -> tuple[Any, Any]:
    """KINDS and measure of an object of the user's, None where it lacks them."""
    return getattr(made, "KINDS", None), getattr(made, "measure", None)  # whatever a user's class has


def _are_kinds(kinds: Mapping[Any, Any]) -> bool:
    return all(isinstance(name, str) and isinstance(kind, MetricKind) for name, kind in kinds.items())


def _averaged(
    name: str, path: str, function: Callable[..., Any], init_args: Mapping[str, Any]
) -> Callable[[Subject, Findings], None]:
    """The measurement that a function makes: of one value an image their mean, or one value of all."""

    def run(subject: Subject, findings: Findings) -> None:
        n, made = len(subject.raw), function(subject.model, subject.whole(), **init_args)
        if isinstance(made, Tensor) and tuple(made.shape) == (n,):
            findings.average(name, made)
        elif isinstance(made, int | float) or (isinstance(made, Tensor) and made.dim() == 0):
            findings.single(name, float(made), n)
        else:
            what = f"a tensor {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
            raise UserError(f"'{path}' gives {what}: expected one number, or one for each of {n} images; mend it")

    return run


def guarded(path: str, call: Callable[[], Any]) -> Any:
    """What the user's own code gives.

    Raises:
        UserError: it fails otherwise than by figures that do not exist.
    """
    try:
        with absence():
            return call()
    except (UserError, Unavailable, *FAILURES):
        raise
    except Exception as error:  # whatever the user's own code raises
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"'{path}' fails ({type(error).__name__}: {reason}{own.line_of(error)}): expected a measurement; mend it"
        ) from error
