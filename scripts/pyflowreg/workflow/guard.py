"""Refuse to run with a foreign package that happens to be called pyflowreg too."""

from __future__ import annotations

import os
from pathlib import Path

import pyflowreg
from pyflowreg.errors import PyflowregError


def check_import_origin(expected_scripts_dir: str | os.PathLike[str]) -> None:
    """Stop unless `pyflowreg` was imported from the repository that holds the workflow.

    Snakemake puts scripts/ at the end of `sys.path`, so that an installed package of the same name
    wins; results would then be computed by other code than the workflow's.

    Parameters
    ----------
    expected_scripts_dir : path
        The repository's scripts/ folder.

    Raises
    ------
    PyflowregError
        Naming both places and what to do.
    """
    expected = Path(os.path.realpath(expected_scripts_dir)) / "pyflowreg"
    found = Path(os.path.realpath(pyflowreg.__file__ or "")).parent
    if found == expected:
        return
    scripts = Path(expected_scripts_dir).absolute()
    raise PyflowregError(
        f"pyflowreg was imported from {found}, but this workflow is in {scripts.parent}: another "
        "installation of that name comes first. In this environment run "
        f"`python -m pip install -e {scripts.parent}`, which replaces it, or start the workflow "
        "from the clone that is installed."
    )


def check_own_package() -> None:
    """Stop if modules of another package called pyflowreg are mixed with ours.

    Raises
    ------
    PyflowregError
        Naming the place and what to do.
    """
    own = Path(os.path.realpath(__file__)).parents[1]
    found = Path(os.path.realpath(pyflowreg.__file__ or "")).parent
    if found == own and hasattr(pyflowreg, "NUMERICS_REVISION"):
        return
    raise PyflowregError(
        f"pyflowreg was imported from {found}, which is another package of that name than the one "
        f"in {own}. Remove it with `python -m pip uninstall pyflowreg` (repeat until none is "
        "left), then install this project again."
    )
