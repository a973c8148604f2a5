#!/usr/bin/env python3
"""Submit the job of a script that Snakemake wrote to PBS; print its identifier."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from pyflowreg.cluster.generic import submit

sys.exit(submit("pbs", Path(sys.argv[-1])))
