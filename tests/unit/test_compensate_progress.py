"""What a motion correction tells while it works."""

import logging
import sys

import pytest

from .scenes import movie, wobble


def test_progress_is_logged(correct, caplog):
    with caplog.at_level(logging.INFO):
        correct(movie(wobble(4)))
    assert "rec.tif" in caplog.text


@pytest.fixture
def _quiet_root():
    """The root logger as Python starts with it."""
    level = logging.root.level
    logging.root.setLevel(logging.WARNING)
    yield
    logging.root.setLevel(level)


@pytest.mark.usefixtures("_quiet_root")
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("set_up", [False, True])
def test_verbose_shows_progress(correct, caplog, capsys, monkeypatch, terminal, set_up):
    """With and without logging set up by the program, which is left as it was."""
    raw = movie(wobble(4))
    if not set_up:
        monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr("pyflowreg.motion_correction.progress.BAR_EVERY", 0)
    package = logging.getLogger("pyflowreg")
    before = package.level, list(package.handlers)
    correct(raw)
    assert "rec.tif" not in caplog.text + capsys.readouterr().err
    correct(raw, verbose=True)
    error = capsys.readouterr().err
    assert "rec.tif: 4 frames in" in (caplog.text if set_up else error)
    assert ("rec.tif [####" in error) == terminal
    assert (package.level, package.handlers) == before
