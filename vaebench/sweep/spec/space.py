"""The search space, and points of it as arguments of `vaebench fit`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import isfinite
from typing import TYPE_CHECKING, Any

from vaebench.configuration.source import Source, argument, config_file
from vaebench.errors import unknown

if TYPE_CHECKING:
    from optuna import Trial

Label = str | int | float | bool | None  # of a choice, in the storage
Point = dict[str, Any]  # settings of a trial by key: numbers, or labels of choices

KINDS = ("float", "int", "choice")
POINTS = 5  # of a range without a step, in a grid


@dataclass(frozen=True)
class Parameter:
    """One dimension of the search space.

    Attributes:
        key: as typed after `vaebench fit --`, or 'config' for a whole file.
        kind: 'float', 'int' or 'choice'.
        low, high: ends of the range, both included.
        log: whether the range is searched on a logarithmic scale.
        step: distance between allowed values, from `low`.
        choices: values by label.
        when: conditions for the parameter to exist: for each other choice, the labels of which one must be chosen.
    """

    key: str
    kind: str
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    choices: Mapping[Label, Any] = field(default_factory=dict)
    when: Mapping[str, tuple[Label, ...]] = field(default_factory=dict)

    def suggest(self, trial: Trial) -> Any:
        """The trial's number or label."""
        if self.kind == "choice":
            return trial.suggest_categorical(self.key, list(self.choices))
        if self.kind == "int":
            return trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return trial.suggest_float(self.key, self.low, self.high, log=self.log, step=self.step)

    def active(self, chosen: Mapping[str, Any]) -> bool:
        """Whether the parameter exists, given the earlier choices."""
        return all(key in chosen and chosen[key] in labels for key, labels in self.when.items())

    def corners(self) -> list[Any]:
        """Every choice, or the ends and an inner point of the range, which reveal a wrong type or range."""
        if self.kind == "choice":
            return list(self.choices)
        inside = (self.low * self.high) ** 0.5 if self.log else self.low + (self.high - self.low) / 3
        if self.step is not None:
            inside = self.low + self.step * round((inside - self.low) / self.step)
        middle = round(inside) if self.kind == "int" else float(inside)
        return list(dict.fromkeys([self.low, middle, self.high]))

    def grid(self) -> list[Any]:
        """Every choice or step; POINTS evenly spaced values of a range without a step, on its scale."""
        if self.kind == "choice":
            return list(self.choices)
        if self.step is not None:
            count = int((self.high - self.low) / self.step + 1e-9) + 1
            values = [self.low + i * self.step for i in range(count)]
        else:
            parts = [i / (POINTS - 1) for i in range(POINTS)]
            spread = self.high - self.low
            values = [self.low * (self.high / self.low) ** p if self.log else self.low + p * spread for p in parts]
        values = [min(max(value, self.low), self.high) for value in values]  # the logarithm's rounding
        return list(dict.fromkeys(round(v) if self.kind == "int" else float(v) for v in values))


@dataclass(frozen=True)
class Space:
    """All parameters, in an order in which each follows those it depends on."""

    parameters: tuple[Parameter, ...]

    def suggest(self, trial: Trial) -> Point:
        """Suggests, through Optuna, every parameter that exists given those before it."""
        chosen: Point = {}
        for parameter in self.parameters:
            if parameter.active(chosen):
                chosen[parameter.key] = parameter.suggest(trial)
        return chosen

    def arguments(self, chosen: Mapping[str, Any]) -> list[str]:
        """A point as arguments of `vaebench fit`: files first, and a class before the settings inside it."""
        values = {p.key: p.choices[chosen[p.key]] if p.kind == "choice" else chosen[p.key]
                  for p in self.parameters if p.key in chosen}  # fmt: skip
        order = sorted(values, key=lambda key: (key != "config", key.count(".")))
        return [argument(key, values[key]) for key in order]

    def points(self) -> list[Point]:
        """The grid: every combination that the conditions allow."""
        points: list[Point] = [{}]
        for parameter in self.parameters:
            grid = parameter.grid()
            points = [
                point | ({} if value is None else {parameter.key: value[0]})
                for point in points
                for value in ([(v,) for v in grid] if parameter.active(point) else [None])
            ]
        return points

    def probes(self) -> Iterator[tuple[str, Point]]:
        """For each parameter, points at each of its corners, with all others at their first corner."""
        by_key = {parameter.key: parameter for parameter in self.parameters}
        for parameter in self.parameters:
            for corner in parameter.corners():
                for needed in _ways(parameter, by_key):
                    wanted = {**needed, parameter.key: corner}
                    point: Point = {}
                    for other in self.parameters:
                        if other.active(point):
                            point[other.key] = wanted.get(other.key, other.corners()[0])
                    yield parameter.key, point

    @property
    def conditional(self) -> bool:
        """Whether some parameter exists only under conditions."""
        return any(parameter.when for parameter in self.parameters)


def _ways(parameter: Parameter, by_key: Mapping[str, Parameter]) -> Iterator[Point]:
    """All combinations of other choices under which a parameter exists."""
    for labels in product(*parameter.when.values()):
        direct = dict(zip(parameter.when, labels, strict=True))
        for above in product(*(_ways(by_key[key], by_key) for key in direct)):
            yield {key: label for point in above for key, label in point.items()} | direct


# Reading ----------------------------------------------------------------------------------------------------------

KEYS = {"float": ("float", "log", "step", "when"), "int": ("int", "log", "step", "when"), "choice": ("choice", "when")}


def read_space(source: Source) -> Space:
    """The `space:` of a sweep file.

    Raises:
        UserError: with the line: a parameter of no kind, an empty range, a condition that can never hold.
    """
    content = source.at("space")
    if not isinstance(content, dict) or not content:
        raise source.error(
            "expected 'space:' with a setting to vary, such as 'model.beta: {float: [0.1, 10]}'", "space"
        )
    parameters: dict[str, Parameter] = {}
    if "seed_everything" in content:
        raise source.error(
            "a trial trains with every seed of the sweep; write seeds: [0, 1, 2] in its place",
            "space",
            "seed_everything",
        )
    for key in content:
        parameters[key] = _parameter(source, key, parameters)
    return Space(tuple(parameters.values()))


def _parameter(source: Source, key: str, before: Mapping[str, Parameter]) -> Parameter:
    place = ("space", key)
    content = source.at(*place)
    kinds = [kind for kind in KINDS if isinstance(content, dict) and kind in content]
    if len(kinds) != 1:
        raise source.error(
            f"expected '{key}' to have one of {', '.join(KINDS)}, such as {{float: [0.1, 10], log: true}}", *place
        )
    (kind,) = kinds
    source.table(KEYS[kind], *place)
    when = _conditions(source, key, before)
    if kind == "choice":
        return Parameter(key, kind, choices=_choices(source, key), when=when)
    return _range(source, key, kind, when)


def _range(source: Source, key: str, kind: str, when: Mapping[str, tuple[Label, ...]]) -> Parameter:
    place, content = ("space", key), source.at("space", key)
    ends = content[kind]
    if not isinstance(ends, list) or len(ends) != 2:
        raise source.error(f"'{key}' has the range {ends!r}: expected [LOW, HIGH]", *place, kind)
    low, high = (_number(source, end, kind, *place, kind) for end in ends)
    step = None if content.get("step") is None else _number(source, content["step"], kind, *place, "step")
    log = content.get("log", False)
    if not low < high:
        raise source.error(f"the range [{low}, {high}] of '{key}' is empty; put the smaller end first", *place, kind)
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise source.error(
            f"'{key}' cannot be searched by its logarithm: expected 'log: true' with a range above 0 and without a "
            "step; change the range or remove log",
            *place,
            "log",
        )
    if step is not None and not 0 < step <= high - low:
        raise source.error(
            f"the step {step} of '{key}' does not fit its range [{low}, {high}]; choose a smaller one above 0",
            *place,
            "step",
        )
    return Parameter(key, kind, low, high, log, step, when=when)


def _number(source: Source, value: Any, kind: str, *place: str | int) -> float:
    try:
        number = float(value)  # YAML reads 1e-4, without a dot, as text
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, bool) or not isfinite(number) or (kind == "int" and number != int(number)):
        raise source.error(f"'{value}' is no {'whole ' if kind == 'int' else ''}number; mend it", *place)
    return int(number) if kind == "int" else number


def _choices(source: Source, key: str) -> dict[Label, Any]:
    content, place = source.at("space", key, "choice"), ("space", key, "choice")
    table = content if isinstance(content, dict) else dict.fromkeys(content) if _labels(content) else None
    if not table:
        raise source.error(
            f"the choices of '{key}' are {content!r}: expected a list such as [Constant, Linear] of different names, "
            "numbers, true, false or null, or a table NAME: VALUE",
            *place,
        )
    choices = dict(table) if isinstance(content, dict) else {label: label for label in table}
    if key == "config":
        return {label: config_file(source, name, *place) for label, name in choices.items()}
    return choices


def _labels(content: Any) -> bool:
    scalars = isinstance(content, list) and all(isinstance(label, str | int | float | None) for label in content)
    return scalars and len({(type(label), label) for label in content}) == len(content)


def _conditions(source: Source, key: str, before: Mapping[str, Parameter]) -> dict[str, tuple[Label, ...]]:
    place, required = ("space", key, "when"), dict[str, tuple[Label, ...]]()
    choices = {name: parameter.choices for name, parameter in before.items() if parameter.kind == "choice"}
    conditions = source.at(*place)
    if conditions is not None and not isinstance(conditions, dict):
        raise source.error(
            f"expected a table KEY: CHOICE, such as {{model.schedule: Linear}}, not {conditions!r}", *place
        )
    for other, wanted in (conditions or {}).items():
        if other not in choices:
            reason = unknown("choice", str(other), choices, "A condition names a choice that stands above it.")
            raise source.error(str(reason), *place, other)
        labels = tuple(wanted) if isinstance(wanted, list) else (wanted,)
        for label in labels:
            if not isinstance(label, str | int | float | None) or label not in choices[other]:
                raise source.error(str(unknown(f"choice of '{other}'", str(label), map(str, choices[other]))), *place)
        required[other] = labels
    return required
