"""Objects from plain configurations, built by jsonargparse outside of a run."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from vaebench.configuration.explain import explained, require_kinds, require_tables, require_values
from vaebench.configuration.own import texts_in
from vaebench.configuration.registered import foreign

MOST = 1000  # configurations that are remembered
_parsed: dict[tuple[type, str], Namespace] = {}  # as they were parsed, by the kind and the configuration as JSON


def built(kind: type, key: str, config: Mapping[str, Any], instantiators: Any = None) -> Any:
    """An object of a class, with the defaults of its constructor.

    Args:
        kind: the base of the class.
        key: what errors call it, 'model'.
        config: the class with its settings, {"class_path", "init_args"}.
        instantiators: as `ArgumentParser.instantiate` takes them.

    Raises:
        UserError: a setting has the wrong type, or the object cannot be built.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(kind, key, required=True)
    require_tables(config, key)
    require_kinds(config)
    with explained():
        return parser.instantiate(_parse(parser, kind, key, config), instantiators=instantiators)[key]


def _parse(parser: ArgumentParser, kind: type, key: str, config: Mapping[str, Any]) -> Namespace:
    """A configuration in full: each is parsed once, as nested classes take long, and every object has its own copy."""
    text = _lasting(config)
    if text and (kind, text) in _parsed:
        return copy.deepcopy(_parsed[kind, text])
    parsed = parser.parse_object({key: config})
    require_values(parsed.as_dict())
    if text and not foreign(parsed.as_dict()):
        if len(_parsed) >= MOST:
            _parsed.clear()
        _parsed[kind, text] = copy.deepcopy(parsed)
    return parsed


def _lasting(config: Mapping[str, Any]) -> str:
    """The configuration as JSON; '' where it may mean something else the next time, or cannot be written so.

    Code of the user's own may be imported anew, and where a class is expected the parser reads files that words name.
    """
    try:
        text = json.dumps(config)
        plain = json.loads(text) == config
    except (TypeError, ValueError, RecursionError):
        return ""
    return text if plain and not foreign(config) and not any(Path(word).is_file() for word in texts_in(config)) else ""
