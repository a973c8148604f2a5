"""`python -m servers start|stop slurm|grid_engine FOLDER`, to look around by hand."""

import sys
from pathlib import Path

from .grid_engine import GridEngine
from .slurm import Slurm

if __name__ == "__main__":
    what, which, folder = sys.argv[1:]
    server = {"slurm": Slurm, "grid_engine": GridEngine}[which](Path(folder))
    server.started = True
    getattr(server, what)()
