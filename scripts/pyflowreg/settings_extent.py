"""How much there is in settings from a file, whatever aliases and nesting make of it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from pyflowreg.errors import ConfigError

MOST_VALUES = 10_000_000
"""Values that settings may stand for once aliases are written out: weights of every pixel fit."""
MOST_KEYS = 1000
DEEPEST = 50
_CONTAINERS = (Mapping, list, tuple, set, frozenset)
_PLAIN = (str, int, float, bool, type(None), datetime.date, bytes)


def _parts(value: Any) -> Iterable[Any]:
    """What a value consists of; nothing for one that is a single value."""
    if isinstance(value, Mapping):
        if len(value) > MOST_KEYS:
            raise ConfigError(
                [f"The settings hold a table of {len(value)} keys; none has more than {MOST_KEYS}."]
            )
        return [*value.keys(), *value.values()]
    return value if isinstance(value, _CONTAINERS) else ()


def check_extent(value: Any, *, plain: bool = False) -> None:
    """Refuse settings that contain themselves, or stand for more than anybody wrote.

    A few lines of YAML whose aliases multiply stand for billions of values, which show up as soon
    as something goes through them, or prints them.

    Parameters
    ----------
    value : object
        Settings as they were read.
    plain : bool
        Refuse what is neither text, number, list nor table: a loader may make functions of
        a file.

    Raises
    ------
    ConfigError
        If there is too much, or what cannot be there.
    """
    # Values written out, and depth, of each container by identity; None while it is open.
    known: dict[int, tuple[int, int] | None] = {}
    stack = [value]
    while stack:
        current = stack[-1]
        parts = _parts(current)
        if id(current) not in known:
            known[id(current)] = None
            for part in parts:
                if plain:
                    _check_plain(part)
                if not isinstance(part, _CONTAINERS):
                    continue
                if id(part) not in known:
                    stack.append(part)
                elif known[id(part)] is None:
                    raise ConfigError(["The settings contain themselves, through an alias."])
            continue
        stack.pop()
        if known[id(current)] is None:
            known[id(current)] = _extent(parts, known)


def _extent(parts: Iterable[Any], known: Mapping[int, tuple[int, int] | None]) -> tuple[int, int]:
    total, depth = 1, 0
    for part in parts:
        values, below = known.get(id(part)) or (1, 0)
        total, depth = total + values, max(depth, below)
    if total > MOST_VALUES or depth >= DEEPEST:
        raise ConfigError(
            [
                f"The settings hold more than {MOST_VALUES} values once aliases are written out, "
                f"or are nested deeper than {DEEPEST}."
            ]
        )
    return total, depth + 1


def _check_plain(value: Any) -> None:
    if not isinstance(value, (*_PLAIN, Mapping, list)):
        raise ConfigError(
            [
                f"The settings hold a value of the type {type(value).__name__}; a file can hold "
                "texts, numbers, true, false, nothing, lists and tables only."
            ]
        )
