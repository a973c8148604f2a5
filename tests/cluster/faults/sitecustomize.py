"""Trouble on request: what jobs of tests do before they correct a recording.

Python imports this file when its folder is on PYTHONPATH. $PYFLOWREG_TEST_FAULTS names a JSON file:
{"recording_01": {"sleep": 60, "times": 1}, "recording_02": {"megabytes": 900}, ...}.
"""

import importlib.abc
import importlib.machinery
import json
import os
import sys
import time
from pathlib import Path

TARGET = "pyflowreg.session.stage1_compensate"


def trouble(name):
    path = Path(os.environ["PYFLOWREG_TEST_FAULTS"])
    fault = json.loads(path.read_text()).get(name)
    if fault is None:
        return
    tries = path.with_name(f"{name}.tries")
    count = int(tries.read_text()) + 1 if tries.exists() else 1
    tries.write_text(str(count))
    if count > fault.get("times", 1_000_000):
        return
    if "megabytes" in fault:
        import numpy

        kept = numpy.ones(fault["megabytes"] * 2**20, dtype=numpy.uint8)
        time.sleep(8)
        del kept
    if "sleep" in fault:
        path.with_name(f"{name}.asleep").touch()
        time.sleep(fault["sleep"])
    if "error" in fault:
        raise RuntimeError(fault["error"])
    if "input" in fault:
        from pyflowreg.errors import InputError

        raise InputError(fault["input"])


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname != TARGET:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        loader = spec.loader
        original = loader.exec_module

        def exec_module(module):
            original(module)
            correct = module.compensate_session_recording

            def with_trouble(config, recording, threads=None):
                trouble(recording.name)
                return correct(config, recording, threads)

            module.compensate_session_recording = with_trouble

        loader.exec_module = exec_module
        return spec


if os.environ.get("PYFLOWREG_TEST_FAULTS"):
    sys.meta_path.insert(0, Finder())
