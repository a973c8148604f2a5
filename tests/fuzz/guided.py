"""One target under atheris: `python -m fuzz.guided TARGET [options of libFuzzer] CORPUS`."""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

OURS = ("io", "motion_correction.options", "motion_correction.option_values", "session", "settings")
OTHERS = ("tifffile", "yaml", "tomllib", "zipfile", "PIL")
# Pillow imports its formats when they are needed, which would be too late.
PICTURES = ("Bmp", "Gif", "Jpeg2K", "Jpeg", "Png", "Ppm", "WebP")


def main() -> None:
    names = [*(f"pyflowreg.{name}" for name in OURS), *OTHERS]
    with atheris.instrument_imports(include=names):
        for name in (*OTHERS, *(f"PIL.{kind}ImagePlugin" for kind in PICTURES)):
            importlib.import_module(name)
        from . import targets
    name = sys.argv[1]
    path = Path(tempfile.mkdtemp(prefix="fuzz-")) / f"case{targets.TARGETS[name].suffix}"
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")

    def one(content: bytes) -> None:
        path.write_bytes(content)
        targets.outcome(name, path)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
