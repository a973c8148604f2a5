"""Command line of the simulator: `python -m pyflowreg.simulation OUT_DIR`."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from pyflowreg.errors import PyflowregError
from pyflowreg.simulation.session import SimulationConfig, simulate_session


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Returns
    -------
    argparse.ArgumentParser
        Every setting of `SimulationConfig` is an option of the same name.
    """
    result = argparse.ArgumentParser(
        prog="python -m pyflowreg.simulation",
        description="Simulate a two-photon session with exactly known motion.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    result.add_argument("folder", type=Path, help="where the recordings and truth/ go")
    for field in dataclasses.fields(SimulationConfig):
        result.add_argument(
            "--" + field.name.replace("_", "-"),
            type=type(field.default),
            default=field.default,
            metavar=type(field.default).__name__.upper(),
            help=" ",
        )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments; default those of the process.

    Returns
    -------
    int
        Exit status: 2 if a setting or the folder cannot be used.
    """
    options = vars(parser().parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder = options.pop("folder")
    try:
        simulate_session(SimulationConfig(**options), folder)
    except PyflowregError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
