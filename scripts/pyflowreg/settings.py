"""What all settings share: strict types, and problems told in the user's words, all at once."""

from __future__ import annotations

import difflib
import math
import os
import reprlib
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from pyflowreg.errors import ConfigError
from pyflowreg.settings_extent import check_extent

LARGEST_WHOLE = 2**31 - 1
LONGEST_PATH = 10_000
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxother = 4, 200
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 12
_SHORT.maxstring = _SHORT.maxlong = 200


@dataclass(frozen=True)
class Allowed:
    """What a value may be, in words; goes into messages, the YAML comments and the tables."""

    text: str


def _plain(value: Any) -> Any:
    """Turn a NumPy scalar into the Python number it holds, so that strict types accept it."""
    return value.item() if isinstance(value, np.generic) else value


def _counted(value: Any) -> Any:
    """Refuse whole numbers that no machine counts to; others are checked by their fields."""
    value = _plain(value)
    if type(value) is int and abs(value) > LARGEST_WHOLE:
        raise ValueError("is too large")
    return value


def _text_path(value: Any) -> Any:
    """Accept a text or a path object; an empty text names nothing."""
    if isinstance(value, str):
        if not value.strip() or "\0" in value:
            raise ValueError("names no file or folder")
        if len(value) > LONGEST_PATH:
            raise ValueError("is longer than a path can be")
        return Path(os.path.expanduser(value))  # noqa: PTH111 - leaves an unknown user as it is
    return value


Flag = Annotated[bool, BeforeValidator(_plain)]
Whole = Annotated[int, BeforeValidator(_counted)]
Number = Annotated[float, BeforeValidator(_plain), Field(allow_inf_nan=False)]
FilePath = Annotated[Path, BeforeValidator(_text_path), Allowed("a path")]


def at_most(limit: float) -> AfterValidator:
    """Refuse numbers beyond a limit that only mistakes reach; no message or table speaks of it."""

    def check(value: Any) -> Any:
        if value > limit:
            raise ValueError(f"is more than {limit:g}")
        return value

    return AfterValidator(check)


def shown(value: Any, limit: int = 60) -> str:
    """Return `value` as a message shows it: short, arrays by shape and type."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python writes no numbers of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the entry of `known` a user most likely meant by `name`, or None."""
    names = {entry.lower(): entry for entry in known}
    found = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.6)
    return names[found[0]] if found else None


def unknown_key(key: str, name: str, known: Iterable[str]) -> str:
    """Return the message for the unknown key `name`, spelt `key` with its prefix."""
    key = key if len(key) <= 100 else f"{key[:97]}..."
    known = sorted(known)
    guess = nearest(name, known)
    if guess is not None:
        return f"{key}: unknown key; did you mean {guess}?"
    listing = f"the keys here are {', '.join(known)}" if known else "no keys are allowed here"
    return f"{key}: unknown key; {listing}."


def _kind(annotation: Any) -> str:
    """Return a type as a phrase."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *extras = get_args(annotation)
        for extra in extras:
            if isinstance(extra, Allowed):
                return extra.text
        return _kind(inner)
    if origin is Literal:
        return "one of " + ", ".join(str(value) for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(member) for member in get_args(annotation))
    phrases = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a text",
        type(None): "nothing (null)",
    }
    containers = {dict: "a table of keys and values", list: "a list"}
    return phrases.get(annotation) or containers.get(origin, "a value")


def allowed(field: FieldInfo) -> str:
    """Return what a field may hold, from its type and limits.

    Parameters
    ----------
    field : FieldInfo
        Field of a settings class.

    Returns
    -------
    str
        For example "a whole number >= 1".
    """
    for entry in field.metadata:
        if isinstance(entry, Allowed):
            return entry.text
    text = _kind(field.annotation)
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    limits = [
        f"{sign} {getattr(entry, name):g}"
        for entry in field.metadata
        for name, sign in signs.items()
        if getattr(entry, name, None) is not None
    ]
    if not limits:
        return text
    nothing = " or nothing (null)"
    end = nothing if text.endswith(nothing) else ""
    return f"{text.removesuffix(nothing)} {' and '.join(limits)}{end}"


def _hint(value: Any, text: str) -> str:
    """Return advice for values that only look right."""
    if isinstance(value, str) and "number" in text:
        try:
            number = float(value)
        except ValueError:
            return ""
        if math.isfinite(number):
            return f" Write it as {number:g}, without quotes."
    if isinstance(value, str) and text == "true or false":
        return " Write it without quotes."
    return ""


def describe(
    model: type[BaseModel],
    error: ValidationError,
    prefix: str = "",
    elsewhere: Callable[[str], str | None] | None = None,
) -> list[str]:
    """Turn pydantic's errors into one sentence per key.

    Parameters
    ----------
    model : type
        Settings class that was validated.
    error : ValidationError
        What pydantic found.
    prefix : str
        Put before each key, for example "flow_options.".
    elsewhere : callable, optional
        Returns advice for an unknown key that belongs somewhere else, or None.

    Returns
    -------
    list of str
        Problems, in the order of the keys.
    """
    problems: dict[str, list[str]] = {}
    for entry in error.errors(include_url=False):
        name = str(entry["loc"][0]) if entry["loc"] else ""
        key = f"{prefix}{name}"
        cause = entry.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError):
            problems.setdefault(key, []).extend(prefix + text for text in cause.problems)
        elif entry["type"] in ("extra_forbidden", "no_such_attribute"):
            advice = elsewhere(name) if elsewhere else None
            text = f"{key}: {advice}" if advice else unknown_key(key, name, model.model_fields)
            problems[key] = [text]
        elif entry["type"] == "missing":
            text = allowed(model.model_fields[name])
            problems[key] = [f"{key}: is required and is not set; give {text}."]
        elif key not in problems:
            problems[key] = [_wrong_value(model, key, name, entry, cause)]
    return [text for texts in problems.values() for text in texts]


def _wrong_value(
    model: type[BaseModel], key: str, name: str, entry: Mapping[str, Any], cause: Any
) -> str:
    """Return the message for one value of the wrong type or out of range."""
    field = model.model_fields.get(name)
    if field is None:
        return f"{key}: {cause or entry['msg']}" if key else str(cause or entry["msg"])
    value = entry["input"]
    text = allowed(field)
    # Other models' validators may name the value themselves.
    detail = str(cause).removeprefix(shown(value)).strip() if cause else "is not allowed"
    suffix = ""
    if isinstance(value, str) and text.startswith("one of "):
        guess = nearest(value, text.removeprefix("one of ").split(", "))
        suffix = f" Did you mean {guess}?" if guess else ""
    return f"{key}: {shown(value)} {detail}; allowed is {text}.{suffix}{_hint(value, text)}"


class Settings(BaseModel):
    """Settings whose construction and assignment raise `ConfigError`, never pydantic's own."""

    model_config = ConfigDict(
        extra="forbid",
        validate_assignment=True,
        validate_default=False,
        strict=True,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
    )
    prefix: ClassVar[str] = ""

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise ConfigError(self._describe(error)) from None

    def __setattr__(self, name: str, value: Any) -> None:
        before = dict(self.__dict__)
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            # A check across fields fails after the assignment; the old values come back.
            self.__dict__.clear()
            self.__dict__.update(before)
            raise ConfigError(self._describe(error)) from None

    @classmethod
    def model_validate(cls, obj: Any, **_: Any) -> Self:
        """Validate keys and values; the same as `from_mapping`."""
        return obj if isinstance(obj, cls) else cls.from_mapping(obj)

    @classmethod
    def _describe(cls, error: ValidationError) -> list[str]:
        return describe(cls, error, cls.prefix, cls._elsewhere)

    @classmethod
    def _elsewhere(cls, name: str) -> str | None:
        """Return advice for a key that is unknown here; subclasses know more."""
        return None

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Build from keys and values.

        Parameters
        ----------
        mapping : mapping
            For example the `config` of a Snakefile.

        Returns
        -------
        Settings
            Validated.

        Raises
        ------
        ConfigError
            With every problem found.
        """
        if not isinstance(mapping, Mapping):
            raise ConfigError([f"The settings are {shown(mapping)}, not keys with values."])
        check_extent(mapping)
        odd = [key for key in mapping if not isinstance(key, str)]
        if odd:
            raise ConfigError([f"{shown(key)}: a key must be a text." for key in odd])
        return cls(**dict(mapping))
