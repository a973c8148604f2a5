import os

import pytest

from pyflowreg.errors import ConfigError
from pyflowreg.session import SessionConfig
from pyflowreg.session.discovery import (
    centre_index,
    discover_recordings,
    recording_name,
    recording_of_task,
)


def problems_of(call, *args):
    with pytest.raises(ConfigError) as caught:
        call(*args)
    return caught.value.problems


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        else:
            path.touch()


def names_of(config):
    return [recording.name for recording in discover_recordings(config)]


def test_natural_order(tmp_path):
    make(tmp_path, "rec10.tif", "rec2.tif", "rec1.tif", "notes.txt")
    assert names_of(SessionConfig(root=tmp_path)) == ["rec1", "rec2", "rec10"]


def test_odd_names(tmp_path):
    odd = ["a b", "a+b", "a{recording}", "über", "日本", "a.b", "100%", "x'y"]
    make(tmp_path, *(f"{name}.tif" for name in odd))
    assert sorted(names_of(SessionConfig(root=tmp_path))) == sorted(odd)


def test_files_and_folders(tmp_path):
    make(tmp_path, "rec1.tif", "rec2/", "rec2/p1.tif", "rec3.h5", "other.tif")
    config = SessionConfig(root=tmp_path, pattern="rec*")
    assert names_of(config) == ["rec1", "rec2", "rec3"]


def test_subfolders(tmp_path):
    make(tmp_path, "m1/a.h5", "m2/b.h5", "c.h5")
    assert names_of(SessionConfig(root=tmp_path, pattern="*/*.h5")) == ["a", "b"]
    assert names_of(SessionConfig(root=tmp_path, pattern="**/*.h5")) == ["a", "b", "c"]


def test_outputs_and_hidden_files_are_no_recordings(tmp_path):
    make(
        tmp_path,
        "a.tif",
        "._a.tif",
        ".cache/x.tif",
        "compensated_outputs/a/compensated.hdf5",
        "final_results/aligned_a.tif",
    )
    assert names_of(SessionConfig(root=tmp_path, pattern="**/*.tif")) == ["a"]
    assert names_of(SessionConfig(root=tmp_path, pattern="*")) == ["a"]


def test_output_folder_reached_through_a_link(tmp_path):
    make(tmp_path, "data/a.tif", "big/out/")
    (tmp_path / "data" / "out").symlink_to(tmp_path / "big" / "out")
    config = SessionConfig(root=tmp_path / "data", pattern="*", output_root="out")
    assert names_of(config) == ["a"]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.tif", "a"),
        ("a.ome.tif", "a"),
        ("A.OME.TIFF", "A"),
        ("a.b.h5", "a.b"),
        (".ome.tif", ".ome"),
    ],
)
def test_recording_name(tmp_path, file, name):
    assert recording_name(tmp_path / file) == name


def test_a_folder_keeps_its_whole_name(tmp_path):
    make(tmp_path, "mouse.7/")
    assert recording_name(tmp_path / "mouse.7") == "mouse.7"


def test_two_recordings_of_one_name(tmp_path):
    make(tmp_path, "a.tif", "a.h5", "b.tif")
    (problem,) = problems_of(discover_recordings, SessionConfig(root=tmp_path, pattern="*"))
    assert "a.h5" in problem
    assert "a.tif" in problem
    assert "Rename one" in problem


def test_a_name_the_session_needs_itself(tmp_path):
    make(tmp_path, "final.tif", "b.tif")
    (problem,) = problems_of(discover_recordings, SessionConfig(root=tmp_path))
    assert "final.tif" in problem


def test_names_too_long_for_what_results_add(tmp_path):
    make(
        tmp_path,
        "n" * 234 + ".tif",
        "ü" * 118 + ".tif",
        "m" * 233 + ".tif",
        "-" + "é" * 116 + ".tif",
    )
    problems = problems_of(discover_recordings, SessionConfig(root=tmp_path))
    assert len(problems) == 2
    assert "nnn.tif: the name is too long by 1 byte(s): results add to it" in problems[0]
    assert "üüü.tif: the name is too long by 3 byte(s)" in problems[1]


def test_nothing_matches(tmp_path):
    make(tmp_path, *(f"r{i}.tiff" for i in range(12)), "folder/")
    (problem,) = problems_of(discover_recordings, SessionConfig(root=tmp_path))
    assert "matches '*.tif'" in problem
    assert "r0.tiff" in problem
    assert "and 3 more" in problem
    make(tmp_path, "empty/")
    (problem,) = problems_of(discover_recordings, SessionConfig(root=tmp_path / "empty"))
    assert "The folder is empty" in problem


def test_root_is_missing_or_a_file(tmp_path):
    (problem,) = problems_of(discover_recordings, SessionConfig(root=tmp_path / "x" / "y"))
    assert "does not exist" in problem
    assert f"the nearest folder that exists is {tmp_path}." in problem
    make(tmp_path, "a.tif")
    (problem,) = problems_of(discover_recordings, SessionConfig(root=tmp_path / "a.tif"))
    assert "is a file" in problem
    problems_of(discover_recordings, SessionConfig(root="x" * 5000))


def test_relative_root(tmp_path, monkeypatch):
    make(tmp_path, "data/a.tif")
    monkeypatch.chdir(tmp_path)
    (recording,) = discover_recordings(SessionConfig(root="data"))
    assert os.fspath(recording.path) == "data/a.tif"


@pytest.mark.parametrize(
    ("center", "index"), [(None, 2), ("rec1.tif", 0), ("rec10", 3), ("sub/rec3.tif", 2)]
)
def test_centre(tmp_path, center, index):
    make(tmp_path, "rec1.tif", "rec2.tif", "rec10.tif", "sub/rec3.tif")
    config = SessionConfig(root=tmp_path, pattern="**/*.tif", center=center)
    assert centre_index(config, discover_recordings(config)) == index


def test_centre_is_not_there(tmp_path):
    make(tmp_path, "recording_01.tif", "recording_02.tif")
    config = SessionConfig(root=tmp_path, center="recordng_02.tif")
    (problem,) = problems_of(centre_index, config, discover_recordings(config))
    assert "recording_01.tif, recording_02.tif" in problem
    assert "Did you mean recording_02.tif?" in problem


def test_array_jobs_count_from_1(tmp_path):
    make(tmp_path, "a.tif", "b.tif")
    recordings = discover_recordings(SessionConfig(root=tmp_path))
    assert recording_of_task(recordings, 1).name == "a"
    assert recording_of_task(recordings, 2).name == "b"
    for number in (0, 3):
        (problem,) = problems_of(recording_of_task, recordings, number)
        assert f"Array job {number} has no recording: the session has 2" in problem
