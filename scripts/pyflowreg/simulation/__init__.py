"""Two-photon-like sessions with exactly known motion, for the demo, tests and benchmarks."""

from pyflowreg.simulation.session import SimulationConfig, simulate_session
from pyflowreg.simulation.truth import (
    RecordingTruth,
    load_truth,
    stage1_error,
    stage1_offset,
    stage2_error,
)

__all__ = [
    "RecordingTruth",
    "SimulationConfig",
    "load_truth",
    "simulate_session",
    "stage1_error",
    "stage1_offset",
    "stage2_error",
]
