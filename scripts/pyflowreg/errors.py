"""Errors a user can cause, each with a message that says what to do."""

from __future__ import annotations

from collections.abc import Sequence


class PyflowregError(Exception):
    """Base of every error caused by input, settings or the environment.

    The command line and the workflow jobs show its message without a traceback.
    """


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
        bullets = "\n".join(f"  - {problem}" for problem in self.problems)
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
