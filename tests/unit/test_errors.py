"""What the errors that users see look like."""

import pickle

from pyflowreg.errors import ConfigError


def test_problems_are_counted_and_listed():
    # The same error is raised before, during and without a run, so it says nothing of when.
    assert str(ConfigError(["eta is 2"])) == "1 problem:\n  - eta is 2"
    assert str(ConfigError(["a", "b"])) == "2 problems:\n  - a\n  - b"


def test_problems_survive_the_way_from_another_process():
    error = pickle.loads(pickle.dumps(ConfigError(["a", "b"])))
    assert error.problems == ["a", "b"]
