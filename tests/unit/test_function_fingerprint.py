"""A function given to a session is part of what its results were made with."""

import functools
import subprocess
import sys

import numpy as np
import pytest

from pyflowreg.motion_correction import OFOptions
from pyflowreg.session.flow_options import plain_options


def described(function):
    return plain_options(OFOptions(preproc_funct=function))["preproc_funct"]


def defined(body, default=1, factor=1, setup=""):
    """A function `f` whose source is as given, always under the same name."""
    text = (
        f"import numpy as np\ndef make(factor):\n    {setup or 'pass'}\n"
        f"    def f(plane, by={default}):\n        return {body}\n    return f\n"
    )
    namespace = {"__name__": "mine"}
    exec(text, namespace)
    return namespace["make"](factor)


SAME = {"body": "np.sqrt(plane * by) * factor"}


@pytest.mark.parametrize(
    "other",
    [
        {"body": "np.sqrt(plane + by) * factor"},
        {"body": "np.exp(plane * by) * factor"},
        {"body": "np.sqrt(plane * by) * factor * 2"},
        SAME | {"default": 2},
        SAME | {"factor": 2},
        SAME | {"factor": np.arange(5000)},
        SAME | {"factor": lambda: 3},
        SAME | {"factor": [1]},
        {"body": "[x + 1 for x in plane] * factor * by"},
    ],
)
def test_another_function_is_seen(other):
    assert described(defined(**SAME)) == described(defined(**SAME))
    assert described(defined(**other)) == described(defined(**other))
    assert described(defined(**SAME)) != described(defined(**other))


def test_values_and_functions_in_a_closure_are_seen():
    big = np.arange(5000)
    other = big.copy()
    other[2500] = 0
    assert described(defined(**SAME, factor=big)) != described(defined(**SAME, factor=other))
    inner = [defined("plane * factor", factor=k) for k in (1, 1, 2)]
    first, same, different = (described(defined(**SAME, factor=f)) for f in inner)
    assert first == same != different


def test_a_function_that_refers_to_itself():
    recursive = defined("f(plane - 1) * factor")
    assert described(recursive) == described(defined("f(plane - 1) * factor"))


SCRIPT = """
import functools, sys
import numpy as np
from pyflowreg.motion_correction import OFOptions
from pyflowreg.session.flow_options import plain_options
def outer(names):
    def f(plane):
        inner = lambda p: p in {"a", "b", "c", "d"}
        return plane if inner("a") else names
    return f
for function in (outer({"x", "y", "z"}), np.sqrt, functools.partial(np.power, 2), "".join):
    sys.stdout.write(plain_options(OFOptions(preproc_funct=function))["preproc_funct"] + "\\n")
"""


def test_what_is_the_same_in_another_process():
    runs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for seed in ("1", "2")
    ]
    assert [one == other for one, other in zip(*runs, strict=True)] == [True, False, False, False]


def test_what_cannot_be_looked_into_is_the_same_within_a_process():
    for function in (np.sqrt, functools.partial(np.power, 2)):
        assert described(function) == described(function)
