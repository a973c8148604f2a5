"""Clocks that are wrong, or differ: ages of results stay in order."""

import os
import time

import pytest

from pyflowreg.errors import ConfigError
from pyflowreg.session import cli
from pyflowreg.session.discovery import Recording
from pyflowreg.session.outputs import session_paths
from pyflowreg.session.stage3_valid_mask import run_stage3
from pyflowreg.session.times import check_not_in_future, date_after, results_in, settle

YEAR = 365 * 24 * 3600


def date(path, seconds):
    """Date a file so many seconds from now."""
    when = time.time() + seconds
    os.utime(path, (when, when))


def made(folder, ages):
    paths = []
    for name, seconds in ages.items():
        (folder / name).write_text(name)
        date(folder / name, seconds)
        paths.append(folder / name)
    return paths


def order(paths):
    return [path.name for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns)]


def test_results_of_the_future_keep_their_order(tmp_path, caplog):
    ages = {"c": 3 * YEAR, "a": -5, "d": 3 * YEAR + 0.01, "b": YEAR, "now": 5}
    paths = made(tmp_path, ages)
    before = {path: path.stat().st_mtime_ns for path in paths}
    assert settle([*paths, tmp_path / "missing"]) == 3
    assert order([path for path in paths if path.name != "now"]) == ["a", "b", "c", "d"]
    assert max(path.stat().st_mtime for path in paths if path.name != "now") <= time.time()
    changed = [path.name for path in paths if path.stat().st_mtime_ns != before[path]]
    assert changed == ["c", "d", "b"]
    assert "3 results were dated in the future" in caplog.text
    assert settle(paths) == 0


def test_equal_times_stay_equal(tmp_path):
    paths = made(tmp_path, {"a": 0, "b": 0})
    for path in paths:
        os.utime(path, (2e9 + YEAR, 2e9 + YEAR))
    settle(paths)
    assert paths[0].stat().st_mtime_ns == paths[1].stat().st_mtime_ns < time.time_ns()


def test_a_result_is_not_older_than_its_sources(tmp_path):
    source, result = made(tmp_path, {"source": 30, "result": 0})
    date_after(result, [source])
    assert result.stat().st_mtime_ns == source.stat().st_mtime_ns
    date(result, 100)
    before = result.stat().st_mtime_ns
    date_after(result, [source])
    assert result.stat().st_mtime_ns == before


def test_recordings_of_the_future(tmp_path):
    path, other = made(tmp_path, {"rec.tif": YEAR, "other.tif": 20})
    recordings = [Recording("rec", path), Recording("other", other)]
    with pytest.raises(ConfigError, match=r"rec\.tif is dated in the future") as caught:
        check_not_in_future(recordings)
    assert len(caught.value.problems) == 1
    check_not_in_future(recordings[1:])


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_file_server_whose_clock_is_behind(finished):
    """A video that is older than the frames it was made from is made once, not every time."""
    folder = finished.root / "compensated_outputs"
    for name in ("compensated.hdf5", "temporal_average.npy", "w_to_reference.npz"):
        for path in folder.glob(f"*/{name}"):
            date(path, 40)
    run_stage3(finished)
    videos = finished.root / "final_results"
    before = times(videos)
    run_stage3(finished)
    for name in ("rec_1", "rec_2", "rec_10"):
        assert times(videos)[f"aligned_{name}.tif"] == before[f"aligned_{name}.tif"]


def test_the_command_after_the_clock_was_put_right(finished, tmp_path, capsys):
    """All results are of next year. A recording that changes now is not taken for older."""
    names = ["rec_1", "rec_2", "rec_10"]
    results = sorted(
        results_in(session_paths(finished), names), key=lambda path: path.stat().st_mtime_ns
    )
    for number, path in enumerate(results):
        date(path, YEAR + number)
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        f"root: {finished.root}\nn_workers: 2\nflow_options: {{quality_setting: fast}}\n"
    )
    assert cli.main(["run", "--config", str(settings)]) == 0
    text = capsys.readouterr().err
    assert "were dated in the future" in text
    assert text.count("is already corrected") == text.count("is already aligned") == 3
    os.utime(finished.root / "rec_10.tif")
    assert cli.main(["run", "--config", str(settings)]) == 0
    text = capsys.readouterr().err
    assert "were dated in the future" not in text
    assert text.count("is already corrected") == text.count("is already aligned") == 2
