"""Keys of `backend_params`: what they may be, and what of them results depend on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Check = Callable[[Any], bool]


def same(value: Any) -> Any:
    """Return the value: results depend on all of it."""
    return value


@dataclass(frozen=True)
class Param:
    """One key of `backend_params`.

    Parameters
    ----------
    name : str
        The key.
    default : object
        Its value if it is not given; None where the backend decides.
    allowed : str
        What it may be, in words.
    is_allowed : callable
        Whether a value is.
    description : str
        What it does, one sentence.
    in_results : callable or None
        What of a value the results depend on; None: nothing.
    """

    name: str
    default: Any
    allowed: str
    is_allowed: Check
    description: str
    in_results: Callable[[Any], Any] | None = same


def one_of(*choices: Any) -> tuple[str, Check]:
    """Rule: one of a few values, in words and as a check."""
    texts = ", ".join(str(choice) for choice in choices)
    return f"one of {texts}", lambda value: isinstance(value, str) and value in choices


def whole(least: int, most: int) -> tuple[str, Check]:
    """Rule: a whole number within bounds."""

    def check(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return f"a whole number from {least} to {most}", check


def number(least: float) -> tuple[str, Check]:
    """Rule: a finite number of at least a bound."""

    def check(value: Any) -> bool:
        real = isinstance(value, int | float) and not isinstance(value, bool)
        return real and math.isfinite(value) and value >= least

    return f"a number of at least {least:g}", check


def flag() -> tuple[str, Check]:
    """Rule: true or false."""
    return "true or false", lambda value: isinstance(value, bool)


def device(kinds: Sequence[str], default: str) -> Param:
    """Key `device`; results depend on the kind of device, not on which of several it is.

    Parameters
    ----------
    kinds : sequence of str
        Of "cuda", "mps" and "cpu", those the backend runs on.
    default : str
        Device if none is given.
    """
    known = [f"{kind}:N" if kind == "cuda" else kind for kind in kinds]
    numbered = "|".join(rf"{kind}(:\d+)?" if kind == "cuda" else kind for kind in kinds)

    def check(value: Any) -> bool:
        return isinstance(value, str) and re.fullmatch(numbered, value) is not None

    return Param(
        "device",
        default,
        " or ".join(known),
        check,
        "Where it is computed.",
        lambda value: str(value).partition(":")[0],
    )


def completed(params: Sequence[Param], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all keys, defaults filled in; unknown keys are left out."""
    return {param.name: given.get(param.name, param.default) for param in params}
