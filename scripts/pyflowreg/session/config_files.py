"""Reading settings from TOML and YAML files."""

from __future__ import annotations

import logging
import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from pyflowreg.errors import ConfigError, InputError
from pyflowreg.io.safety import read_small
from pyflowreg.settings import nearest, shown

logger = logging.getLogger(__name__)

MAX_BYTES = 2**20
MAX_VALUES = 100_000
_DEVICE = ("device",)
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"


def _text(path: Path) -> str:
    try:
        return read_small(path, MAX_BYTES).decode("utf-8-sig")
    except InputError as error:
        raise ConfigError([f"{error}."]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read ({error.strerror})."]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text (byte {error.start})."]) from None


# Python's parser takes the square of the number of a key's parts.
_LONG_KEY = re.compile(
    r"(?<![\w-])(?:(?:[\w-]++|\"(?:[^\"\\\n]|\\.)*+\"|'[^'\n]*+')[ \t]*+\.[ \t]*+){100}"
)


class _Loader(yaml.SafeLoader):
    """Safe loader that refuses a key given twice, and aliases that multiply."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        node = super().compose_node(parent, index)
        if parent is None and index is None and node is not None:
            self._count(node, {})
        return node

    def _count(self, node: yaml.Node, known: dict[int, int]) -> int:
        """Return how many values `node` stands for once its aliases are written out."""
        if id(node) in known:
            if known[id(node)] == 0:
                raise yaml.constructor.ConstructorError(
                    None, None, "an alias contains itself", node.start_mark
                )
            return known[id(node)]
        known[id(node)] = 0
        total = 1
        if isinstance(node, yaml.MappingNode):
            total += sum(self._count(part, known) for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            total += sum(self._count(part, known) for part in node.value)
        if total > MAX_VALUES:
            raise yaml.constructor.ConstructorError(
                None, None, f"more than {MAX_VALUES} values", node.start_mark
            )
        known[id(node)] = total
        return total

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key != "<<" and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


# YAML 1.1 reads 50:59 as 3059 and 1e-3 as a text; these are the rules of YAML 1.2.
_Loader.yaml_implicit_resolvers = {
    first: [entry for entry in entries if entry[0] not in (_INT, _FLOAT)]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _INT, re.compile(r"(?:[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


def parse_yaml(text: str) -> Any:
    """Parse YAML with a safe loader that also refuses duplicate keys and exploding aliases.

    Numbers are read by the rules of YAML 1.2: ``50:59`` is a text, ``1e-3`` a number.

    Parameters
    ----------
    text : str
        One YAML document.

    Returns
    -------
    object
        What it holds; None for an empty text.

    Raises
    ------
    yaml.YAMLError
        If it is not valid, gives a key twice, or stands for too many values.
    ValueError
        If a value does not exist, such as the date 2024-02-30.
    RecursionError
        If it is nested too deeply.
    """
    return yaml.load(text, Loader=_Loader)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        Not validated; empty for an empty file.

    Raises
    ------
    ConfigError
        If it cannot be read, with the line.
    """
    try:
        value = parse_yaml(_text(path))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = " ".join(str(error).split())
        raise ConfigError([f"{path}: is not valid YAML ({reason})."]) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError([f"{path}: holds {shown(value)}, not keys with values."])
    return value


def read_toml(path: Path, keys: Collection[str]) -> dict[str, Any]:
    """Read a TOML file.

    Parameters
    ----------
    path : Path
        The file.
    keys : collection of str
        The settings at the top level. One that stands below ``[backend_params]`` is moved up, with
        a log line: TOML takes everything below a table's header into the table.

    Returns
    -------
    dict
        Not validated.

    Raises
    ------
    ConfigError
        If it cannot be read, with the line, or a moved key is already set.
    """
    try:
        text = _text(path)
        if _LONG_KEY.search(text):
            raise ValueError("a key of a hundred parts")  # noqa: TRY301
        value = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError([f"{path}: is not valid TOML ({error})."]) from None
    return hoist(value, keys)


def hoist(value: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """Move top-level settings out of ``backend_params``.

    Parameters
    ----------
    value : dict
        Content of a TOML file; not modified.
    keys : collection of str
        The settings at the top level. Misspelt ones are recognised and moved, too.

    Returns
    -------
    dict
        The same settings, with a log line if any was moved.

    Raises
    ------
    ConfigError
        If a moved key is already set at the top level.
    """
    table = value.get("backend_params")
    if not isinstance(table, dict):
        return value
    # A misspelt setting is moved as well, so that it is reported where it was meant.
    moved = {key: table[key] for key in table if key not in _DEVICE and nearest(key, keys)}
    twice = [key for key in moved if key in value]
    if twice:
        raise ConfigError(
            [f"{key}: is set at the top level and again below [backend_params]." for key in twice]
        )
    if moved:
        logger.info(
            "Taken from below [backend_params] to the top level, where they belong: %s.",
            ", ".join(moved),
        )
    rest = {key: entry for key, entry in table.items() if key not in moved}
    return {**value, **moved, "backend_params": rest}
