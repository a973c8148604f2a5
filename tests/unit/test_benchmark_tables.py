"""The benchmark's tables, ratios and errors, on made-up data; nothing is timed."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pyflowreg.simulation import SimulationConfig
from pyflowreg.simulation.session import recording_truth

PERFORMANCE = Path(__file__).parents[1] / "performance"


@pytest.fixture
def module(monkeypatch):
    """Import a module of the benchmarks."""
    monkeypatch.syspath_prepend(str(PERFORMANCE))
    yield lambda name: importlib.import_module(f"bench.{name}")
    for name in [name for name in sys.modules if name.split(".")[0] == "bench"]:
        del sys.modules[name]


@pytest.fixture
def truth():
    return recording_truth(SimulationConfig(n_recordings=1, n_frames=6, height=48, width=56), 0)


def constant(truth, x, y):
    """The same shift in every frame; what the other parts of the motion do is removed."""
    moved = np.broadcast_to([x, y], truth.line_motion.shape)
    return replace(truth, line_motion=moved.copy(), weights=np.zeros_like(truth.weights))


def test_ratio_and_summary(module):
    tables = module("tables")
    slow, fast = tables.summary([9.0, 6.0, 30.0]), tables.summary([2.0, 3.0])
    assert slow == {"min": 6.0, "median": 9.0, "repeats": 3}
    assert tables.ratio(slow, fast) == 3.0
    assert tables.ratio(slow, fast, "median") == 3.6
    with pytest.raises(ValueError, match="nothing"):
        tables.summary([])
    with pytest.raises(ValueError, match="divided"):
        tables.ratio(slow, {"min": 0.0})


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.5, "1234"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123"), (0.012, "0.0120")],
)
def test_three_digits(module, value, text):
    assert module("tables").digits(value) == text


def test_markdown_refuses_ragged_rows(module):
    tables = module("tables")
    assert tables.markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |\n"
    with pytest.raises(ValueError, match="2 columns"):
        tables.markdown(["a", "b"], [["1"]])


def test_block_of_a_page_is_replaced(module):
    tables = module("tables")
    begin, end = "<!-- one: begin -->", "<!-- one: end -->"
    page = f"before\n{begin}\nold\n{end}\nafter\n"
    new = tables.with_block(page, "one", "new\n")
    assert new == f"before\n{begin}\nnew\n{end}\nafter\n"
    assert tables.with_block(new, "one", "new") == new
    with pytest.raises(ValueError, match="marks"):
        tables.with_block(page, "other", "new")


def test_error_of_a_pair_is_zero_for_the_opposite_shift(module, truth):
    accuracy = module("accuracy")
    moved = constant(truth, 2.0, -1.0)
    w = np.broadcast_to([-2.0, 1.0], (48, 56, 2))
    assert accuracy.pair_error(w, moved, 3) == pytest.approx(0, abs=1e-12)
    assert accuracy.pair_error(np.zeros((48, 56, 2)), moved, 3) == pytest.approx(5**0.5)


def test_error_of_a_recording_ignores_where_it_rests(module, truth):
    accuracy = module("accuracy")
    still = constant(truth, 0.0, 0.0)
    w = np.full((6, 48, 56, 2), 0.7, dtype=np.float32)
    assert accuracy.recording_error(w, still) == pytest.approx(0, abs=1e-6)
    w[2, ..., 0] += 6
    assert accuracy.recording_error(w, still) == pytest.approx(1, abs=1e-6)


def test_rigid_fields_undo_rigid_motion(module, truth):
    accuracy = module("accuracy")
    moved = constant(truth, 2.0, -1.0)
    moved.line_motion[2] *= 2
    fields = accuracy.rigid_fields(moved)
    assert fields.shape == (6, 48, 56, 2)
    assert accuracy.recording_error(fields, moved) == pytest.approx(0, abs=1e-6)
    assert accuracy.recording_error(0 * fields, moved) > 0.1


def test_scenes_name_their_light_and_motion(module):
    section = module("section_accuracy")
    for scene in section.SCENES:
        assert set(scene.changes) == {"photons", "nonrigid", "nonrigid_wavelength"}
        config = SimulationConfig(height=128, width=128, **scene.changes)
        truth = recording_truth(replace(config, n_recordings=1, n_frames=2), 0)
        waves = 2 * np.pi / np.linalg.norm([f.wave_vectors for f in truth.fields], axis=-1)
        low, high = section._waves(128 * config.nonrigid_wavelength).split(" to ")
        assert float(low) - 1 < waves.min()
        assert waves.max() < float(high) + 1


def test_slow_runs_give_errors_too(module, tmp_path):
    setup, corrections = module("setup"), module("corrections")
    stage1 = module("section_stage1")
    sizes = {"frames": 120, "accuracy_frames": 40, "peer_frames": 40}
    given = setup.Setup(tmp_path, {"ours": "python", "peer": "python"}, **sizes)
    jobs = stage1._jobs(given, "threading")
    slow = [job for job in jobs if job.slow]
    assert [job.frames for job in slow] == [(20, 40)]
    assert all(stage1._keeps_fields(given, job) == job.slow for job in jobs)
    assert len({corrections.results(given, job) for job in jobs}) == len(jobs)
    with pytest.raises(ValueError, match="at least 40"):
        stage1._jobs(replace(given, peer_frames=30), "threading")


def test_block_shifts_become_dense(module):
    accuracy = module("accuracy")
    shifts = np.tile([1.0, 2.0, 3.0], 2)
    dense = accuracy.dense_block_shifts(shifts, (40, 60), 20, (2, 3))
    assert dense.shape == (40, 60)
    assert (dense[:, :9] == 1).all()
    assert dense[0, 29] == pytest.approx(1.975)
    assert (dense[:, 51:] == 3).all()


def test_field_read_from_suite2p_is_the_one_it_applied(module, tmp_path):
    accuracy = module("accuracy")
    plane = tmp_path / "suite2p" / "plane0"
    plane.mkdir(parents=True)
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 99, (3, 64, 64), dtype=np.int16)
    raw.tofile(plane / "data_raw.bin")
    np.roll(raw, (-2, 1), axis=(1, 2)).tofile(plane / "data.bin")
    shifts = {"yoff": np.full(3, 1), "xoff": np.full(3, -1)}
    shifts |= {"yoff1": np.ones((3, 4)), "xoff1": np.zeros((3, 4))}
    np.save(plane / "reg_outputs.npy", shifts, allow_pickle=True)
    fields = accuracy.suite2p_fields(tmp_path, (64, 64), block=40)
    assert (fields == [-1, 2]).all()
    assert accuracy.suite2p_field_mismatch(tmp_path, fields) == pytest.approx(0)
    assert accuracy.suite2p_field_mismatch(tmp_path, -fields) > 10


PAIRS = [f"g{number:02d}" for number in range(1, 19)]
TIMES = {"min": 0.5, "median": 0.6, "repeats": 3}
ABOUT = {
    "cpu": "a CPU",
    "cores": 2,
    "memory_gib": 24,
    "date": "2030-01-01",
    "commit": "abc",
    "versions": {
        "this package": {"numpy": "2"},
        "this package, with all backends": {"torch": "2"},
        "absent": {},
    },
}
RESULTS = {
    "sections": {
        "flow": {
            "rows": [
                {"quality": "fast", "tool": "ours", "error": 0.25, **TIMES},
                {"quality": "fast", "tool": "peer", "error": 0.5, **TIMES, "min": 5.0},
            ],
            "side": 512,
            "pairs": 2,
            "motion": 2.0,
        },
        "stage1": {
            "rows": [
                {
                    "quality": quality,
                    "tool": tool,
                    "frames": [200],
                    "reused": False,
                    "cpu_seconds": 0.9,
                    "peak_bytes": 2**29,
                    "error": 0.3,
                    **TIMES,
                }
                for quality, tool in (("balanced", "ours"), ("default", "suite2p"))
            ],
            "parallel": {"threading": 3.0},
            "motion": 2.0,
            "side": 512,
            "threads": 2,
            "frames": 200,
            "accuracy_frames": 40,
        },
        "accuracy": {
            "scenes": [
                {
                    "name": name,
                    "rows": [{"name": "a tool", "error": 0.25, "seconds": seconds}],
                    "photons": 5.0,
                    "rigid": 5.0,
                    "nonrigid": 2.0,
                    "wavelength": 76.8,
                    "motion": 1.5,
                    "rigid_only": 0.75,
                }
                for name, seconds in (("one", 0.5), ("other", 0.25))
            ],
            "frames": 40,
            "side": 512,
            "threads": 2,
        },
        "backends": {
            "backends": [
                {
                    "title": title,
                    "errors": dict.fromkeys(PAIRS, error),
                    "differences": {pair: [error / 100, error / 10] for pair in PAIRS},
                    "times": {"fast": TIMES},
                }
                for title, error in (("flowreg", 0.25), ("other", 0.5))
            ],
            "original": dict.fromkeys(PAIRS, 0.75),
            "scenes": [{"name": "dim", "errors": [0.3, 0.4]}],
            "frames": 40,
            "side": 512,
        },
        "memory": {
            "rows": [{"stage": "1", "peak_bytes": 2**29, "seconds": 60.0}],
            "frames": 5000,
            "side": 512,
            "threads": 2,
        },
        "scaling": {
            "pixels": [{"quality": "fast", "side": 256, **TIMES}],
            "recordings": [
                {"quality": "fast", "frames": 48, "threads": threads, "speedup": 1.9, **TIMES}
                for threads in ("1", "2", "1 in each of two processes")
            ],
            "side": 512,
        },
        "stage3": {
            "rows": [{"what": "TIFF", **TIMES}, {"what": "masks", **TIMES}],
            "frames": 200,
            "side": 512,
            "threads": 2,
        },
        "startup": {"rows": [{"what": f"step {k}", **TIMES} for k in range(7)]},
        "session": {
            "rows": [
                {
                    "channels": 1,
                    "quality": "fast",
                    "tool": "ours",
                    **{key: [0.1, 0.2] for key in ("before1", "stage1", "before2", "stage2")},
                }
            ]
        },
    },
}


RESULTS["about"] = dict.fromkeys(RESULTS["sections"], ABOUT)


def test_sections_measured_on_other_days_say_so(module):
    about = {**RESULTS["about"], "stage3": {**ABOUT, "commit": "def"}}
    text = module("report").readme_blocks({**RESULTS, "about": about})["benchmark"]
    assert text.count("commit abc") == text.count("commit def") == 1


def test_every_section_has_a_table(module):
    text = module("report").full_text(RESULTS)
    for name in RESULTS["sections"]:
        assert f"## {module(f'section_{name}').TITLE}" in text
    assert "| fast | pyflowreg 0.1.0a9, opencv < 5 | 5000 (600) | 10.0x | 1.00x | 0.500 |" in text
    assert "| 1 | 512 | 60.0 |" in text
    assert "| all, 18 pairs | 0.750 | 0.250 | 0.500 |" in text
    assert "| difference from flowreg: largest mean of a pair |  | 0.00250 | 0.00500 |" in text
    assert "| its wavelengths (px) | 77 to 169 | 77 to 169 |  |" in text
    assert "| a tool | 0.250 | 0.250 | 250 |" in text


def test_readme_names_machine_and_versions(module):
    blocks = module("report").readme_blocks(RESULTS)
    assert set(blocks) == {"benchmark", "backends"}
    for text in blocks.values():
        assert "a CPU, 2 cores, 24 GiB" in text
    assert "this package: numpy 2." in blocks["benchmark"]
    assert "this package, with all backends: torch 2." in blocks["backends"]
    assert "Start-up" not in blocks["benchmark"]
    assert blocks["benchmark"].count("a CPU") == 1
    few = {**RESULTS, "sections": {"backends": RESULTS["sections"]["backends"]}}
    assert set(module("report").readme_blocks(few)) == {"backends"}
