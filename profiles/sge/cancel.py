#!/usr/bin/env python3
"""Cancel jobs of Grid Engine."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from pyflowreg.cluster.generic import cancel

sys.exit(cancel("sge", sys.argv[1:]))
