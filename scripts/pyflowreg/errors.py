"""Errors a user can cause, each with a message that says what to do."""

from __future__ import annotations

from collections.abc import Sequence

MOST_CHARACTERS = 8000
_MOST_PER_PROBLEM, _MOST_PROBLEMS = 1000, 50
_SHOWN = frozenset("\n\t")


def _printable(text: str, most: int) -> str:
    """Shorten a text, and spell out what a terminal would act on or could not show."""
    if len(text) > most:
        text = f"{text[: most - 3]}..."
    return "".join(
        letter
        if letter.isprintable() or letter in _SHOWN
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


class PyflowregError(Exception):
    """Base of every error caused by input, settings or the environment.

    The command line and the workflow jobs show its message without a traceback. The message may
    quote files and settings of any content, so it is shortened and holds no control characters.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(_printable(str(message), MOST_CHARACTERS))


class ConfigError(PyflowregError, ValueError):
    """Settings, or the set of recordings they select, cannot be used.

    Parameters
    ----------
    problems : sequence of str
        Every problem found, one sentence each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        noun = "problem" if len(self.problems) == 1 else "problems"
        lines = [_printable(text, _MOST_PER_PROBLEM) for text in self.problems[:_MOST_PROBLEMS]]
        if len(self.problems) > len(lines):
            lines.append(f"... and {len(self.problems) - len(lines)} more.")
        bullets = "\n".join(f"  - {line}" for line in lines)
        super().__init__(f"{len(self.problems)} {noun}:\n{bullets}")

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[str]]]:
        return type(self), (self.problems,)


class InputError(PyflowregError, ValueError):
    """A file cannot be used as input; the message names it, and the frame if there is one."""


class UnreadableError(InputError):
    """A file is there, but the system does not let it be read now: nothing is wrong with it."""


class OutputError(PyflowregError, OSError):
    """A file cannot be written; the message names it, the reason and the way out."""


class BackendError(PyflowregError):
    """A flow backend is unknown or not installed."""
