"""What `pyflowreg-session compile` does ahead of time is all that a session needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from pyflowreg.session.precompile import session_settings
from pyflowreg.simulation import SimulationConfig, simulate_session

# More frames than the reference is made of, and sizes of their own.
TINY = SimulationConfig(n_recordings=2, n_frames=60, height=60, width=84)

AHEAD = """
import sys
from pathlib import Path
from pyflowreg.session.precompile import run_session, session_settings
run_session(Path(sys.argv[1]), *next(session_settings()))
"""
SESSION = """
import sys
from pyflowreg.core.jit import compile_log
from pyflowreg.session.cli import main

compiled = []
start = compile_log.start
compile_log.start = lambda kernel, place: (compiled.append(kernel), start(kernel, place))
assert main(["run", "--config", sys.argv[1]]) == 0
names = [f"{cache._function.__name__}{types}" for cache, types in compiled]
assert not names, "not compiled ahead: " + "; ".join(names)
"""


def run(script: str, argument: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script, str(argument)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_session_with_default_settings_finds_every_kernel_compiled(tmp_path: Path) -> None:
    assert next(session_settings()) == (1, {}, "uint16")
    ahead = tmp_path / "ahead"
    ahead.mkdir()
    run(AHEAD, ahead)
    root = tmp_path / "session"
    simulate_session(TINY, root)
    config = tmp_path / "session.yaml"
    config.write_text(yaml.safe_dump({"root": str(root), "pattern": "*.tif", "n_workers": 1}))
    run(SESSION, config)
