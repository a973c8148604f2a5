#!/usr/bin/env python3
"""Print running, success or failed for a job of Grid Engine."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from pyflowreg.cluster.generic import status

sys.exit(status("sge", sys.argv[1]))
