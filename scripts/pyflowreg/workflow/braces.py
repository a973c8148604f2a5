"""Names that look like Snakemake's wildcards.

Snakemake reads ``{word}`` in any path as a wildcard and has no way to write it literally. A
recording or folder may be called so nevertheless.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

WILDCARD = "recording"
LOOKS_LIKE_WILDCARD = re.compile(r"\{\s*[.\w]+\s*(,|\})")
LOOKS_LIKE_OURS = re.compile(r"\{\s*" + WILDCARD + r"\s*(,|\})")
LOOKS_LIKE_PATHVAR = re.compile(r"<[a-z][a-z0-9_]*>")


def needs_literal_braces(paths: Iterable[str]) -> bool:
    """Return whether Snakemake would find a wildcard in one of the paths.

    Parameters
    ----------
    paths : iterable of str
        Files and folders of the session.

    Returns
    -------
    bool
        True if one of them has a word in braces.
    """
    return any(LOOKS_LIKE_WILDCARD.search(path) for path in paths)


def unusable_names(paths: Iterable[str]) -> list[str]:
    """Return a problem for each path that cannot be written in a Snakefile at all.

    Parameters
    ----------
    paths : iterable of str
        Files and folders of the session.

    Returns
    -------
    list of str
        One sentence for each such path, with the way out.
    """
    problems = []
    for path in paths:
        found = re.search(r"\{\s*" + WILDCARD + r"\s*(,|\})", path) or LOOKS_LIKE_PATHVAR.search(
            path
        )
        if found:
            problems.append(
                f"{path}: the workflow cannot handle {found[0]!r} in a name. Rename the file or "
                "folder, or use pyflowreg-session, which can."
            )
    return problems


def constraint(names: Iterable[str]) -> str:
    """Return a regular expression that matches the names and nothing else.

    Braces are written as hexadecimal codes, because Snakemake puts the expression into braces.

    Parameters
    ----------
    names : iterable of str
        Names of the recordings, taken literally.

    Returns
    -------
    str
        For Snakemake's `wildcard_constraints`.
    """
    escaped = "|".join(re.escape(name) for name in names)
    return escaped.replace(r"\{", r"\x7b").replace(r"\}", r"\x7d")


def take_braces_literally() -> None:
    """Let Snakemake recognise the wildcard `recording` and no other.

    This replaces a constant of Snakemake and is done only for a session that needs it.

    Raises
    ------
    AttributeError
        If this version of Snakemake has no such constant.
    """
    from snakemake import io

    own = io.WILDCARD_REGEX.pattern.replace(r"[.\w]+", WILDCARD)
    io.WILDCARD_REGEX = re.compile(own, re.VERBOSE)
