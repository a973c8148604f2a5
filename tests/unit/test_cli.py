import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pyflowreg import __version__
from pyflowreg.errors import InputError
from pyflowreg.session import cli


@pytest.fixture
def session(tmp_path):
    """Settings file of a session of three recordings."""
    for name in ("a", "b", "c"):
        tifffile.imwrite(
            tmp_path / f"{name}.tif", np.zeros((4, 8, 9), np.uint16), photometric="minisblack"
        )
    path = tmp_path / "session.toml"
    path.write_text(f'root = "{tmp_path}"\n[flow_options]\nalpha = 3\n')
    return path


@pytest.fixture
def stages(monkeypatch):
    """Record which stages are run, with which settings, instead of running them."""
    calls = []
    for name in ("_stage1", "_stage1_array", "_stage2", "_stage3"):
        monkeypatch.setattr(cli, name, lambda config, name=name: calls.append((name, config)))
    return calls


def names(calls):
    return [name for name, _ in calls]


def test_all_stages(session, stages):
    assert cli.main(["run", "--config", str(session)]) == 0
    assert names(stages) == ["_stage1", "_stage2", "_stage3"]


@pytest.mark.parametrize("stage", ["1", "2", "3"])
def test_one_stage(session, stages, stage):
    assert cli.main(["run", "--config", str(session), "--stage", stage]) == 0
    assert names(stages) == [f"_stage{stage}"]


def test_array(session, stages):
    assert cli.main(["run", "--config", str(session), "--stage", "1", "--array"]) == 0
    assert names(stages) == ["_stage1_array"]


def test_scheduler_array_in_the_settings(session, stages, capsys):
    session.write_text('scheduler = "array"\n' + session.read_text())
    assert cli.main(["run", "--config", str(session), "--stage", "1"]) == 0
    assert cli.main(["run", "--config", str(session), "--stage", "2"]) == 0
    assert names(stages) == ["_stage1_array", "_stage2"]
    assert cli.main(["run", "--config", str(session)]) == 2
    assert "scheduler: array: only stage 1 can be split" in capsys.readouterr().err


@pytest.mark.parametrize("stage", [[], ["--stage", "2"], ["--stage", "3"]])
def test_only_stage_1_has_array_jobs(session, stages, capsys, stage):
    assert cli.main(["run", "--config", str(session), "--array", *stage]) == 2
    assert "only stage 1 can be split" in capsys.readouterr().err
    assert not stages


def test_of_params(session, stages):
    arguments = ["--of-params", "quality_setting=fast", "sigma=[1,1,0.1]", "reference_frames=1:30"]
    arguments += ["--of-params", "eta=8e-1", "save_w=true"]
    assert cli.main(["run", "--config", str(session), "--stage", "1", *arguments]) == 0
    options = stages[0][1].options_for()
    assert options.quality_setting == "fast"
    assert options.sigma == ((1.0, 1.0, 0.1),)
    assert options.reference_indices(40) == list(range(30))
    assert options.eta == 0.8
    assert options.save_w is True
    assert options.alpha == 3, "keys of the file that are not overridden stay"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("alhpa=2", "flow_options.alhpa: unknown key; did you mean alpha?"),
        ("alpha=abc", "flow_options.alpha: 'abc' is not a number"),
        ("fast", "'fast' is not KEY=VALUE"),
        ("alpha=[", "is not valid YAML"),
    ],
)
def test_of_params_that_are_refused(session, stages, capsys, entry, expected):
    assert cli.main(["run", "--config", str(session), "--of-params", entry]) == 2
    assert expected in capsys.readouterr().err
    assert not stages


def test_nothing_starts_if_a_recording_is_bad(session, capsys):
    (session.parent / "d.tif").write_text("no image")
    before = sorted(session.parent.rglob("*"))
    assert cli.main(["run", "--config", str(session)]) == 2
    assert "d.tif" in capsys.readouterr().err
    assert sorted(session.parent.rglob("*")) == before


def test_user_errors_in_a_stage(session, monkeypatch, capsys):
    def fail(config):
        raise InputError("a.tif: frame 3 cannot be read.")

    monkeypatch.setattr(cli, "_stage2", fail)
    assert cli.main(["run", "--config", str(session), "--stage", "2"]) == 2
    assert capsys.readouterr().err.endswith("a.tif: frame 3 cannot be read.\n")


def test_an_unexpected_error_keeps_its_traceback(session, monkeypatch):
    def fail(config):
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_stage2", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "--config", str(session), "--stage", "2"])


def test_interrupt(session, monkeypatch):
    def interrupt(config):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(cli, "_stage2", interrupt)
    # A shell starts background jobs with this signal ignored.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.main(["run", "--config", str(session), "--stage", "2"]) == 130
    finally:
        signal.signal(signal.SIGINT, previous)


def test_compiling_ahead(monkeypatch, capsys, tmp_path):
    """What `compile` prepares is covered by the test that nothing is compiled after it."""
    from pyflowreg.core import jit
    from pyflowreg.session import precompile

    monkeypatch.setattr(precompile, "compile_kernels", lambda: None)
    monkeypatch.setattr(jit.kernel_store, "writable", tmp_path)
    assert cli.main(["compile"]) == 0
    assert f"all are kept in {tmp_path}" in capsys.readouterr().out
    monkeypatch.setattr(jit.kernel_store, "writable", None)
    assert cli.main(["compile"]) == 2
    assert "NUMBA_CACHE_DIR" in capsys.readouterr().err


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "pyflowreg.session.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_itself(tmp_path):
    done = command("run", "--config", str(tmp_path / "missing.toml"))
    assert done.returncode == 2
    assert "missing.toml: cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_help_and_version(capsys):
    for arguments in (["--help"], ["run", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 0
    text = capsys.readouterr().out
    for expected in ("config/README.md", "SGE_TASK_ID", "--of-params", __version__):
        assert expected in text


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "--config", "a", "--stage", "4"]])
def test_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_the_installed_command_is_ours():
    script = Path(sys.executable).with_name("pyflowreg-session")
    if not script.exists():
        pytest.skip("the project is not installed in this environment")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"pyflowreg-session {__version__}"
