"""Stages 1 to 3, killed at any step or moment, or on a disk that fails: the same files, no others.

`make test-kills` takes every step and 30 kills that hit; the suite takes a few.
"""

import shutil

import pytest

from . import checkpoints as helper
from . import faults
from .stages import STAGES, Case


@pytest.fixture
def case(two_recordings, tmp_path, monkeypatch, request):
    helper.small_chunks(monkeypatch)
    shutil.copytree(two_recordings, tmp_path / "data")
    return Case(tmp_path / "data", request.param)


every_stage = pytest.mark.parametrize("case", STAGES, indirect=True)


@every_stage
def test_killed_at_steps_of_its_work_with_files(case, tally):
    faults.at_every_step(case.go_on, case.check, case.stage, tally, fails=False, sample=8)


@every_stage
def test_the_disk_fails_at_steps_of_its_work_with_files(case, tally):
    faults.at_every_step(case.go_on, case.check, case.stage, tally, fails=True, sample=8)


@every_stage
def test_killed_at_random_moments(case, tally):
    faults.killed_at_random(case.go_on, case.check, case.stage, tally)
