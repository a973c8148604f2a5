"""Which backends there are, what is missing of them, and what may be set."""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import get_args

import numpy as np
import pytest

from pyflowreg.core import backend_registry
from pyflowreg.core.backend_registry import (
    BACKENDS,
    availability,
    check_params,
    get_backend,
    result_params,
    table,
)
from pyflowreg.core.optical_flow import get_displacement
from pyflowreg.errors import BackendError, ConfigError
from pyflowreg.motion_correction import OFOptions
from pyflowreg.motion_correction.options import Backend
from pyflowreg.session import SessionConfig, cli
from pyflowreg.workflow import resources
from pyflowreg.workflow.plan import Plan

REPOSITORY = Path(__file__).resolve().parents[2]
EXTRAS = [name for name, entry in BACKENDS.items() if entry.extra]

LOOKING_IMPORTS_NOTHING = """
import sys
from pyflowreg.core.backend_registry import BACKENDS, availability, check_params, host_needs
from pyflowreg.workflow.plan import Plan
for name in BACKENDS:
    availability(name, on_this_machine=False)
    check_params(name, {})
    host_needs(name, {})
heavy = {"numba", "scipy", "h5py", "tifffile", "torch", "cupy", "cv2"}
sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)
"""


def test_nothing_is_imported_until_asked():
    subprocess.run([sys.executable, "-c", LOOKING_IMPORTS_NOTHING], check=True)


def test_settings_and_registry_name_the_same_backends():
    assert get_args(Backend) == ("flowreg", "flowreg_torch", "flowreg_cuda", "diso")
    assert set(get_args(Backend)) == set(BACKENDS)


def test_extras_are_those_of_the_package():
    text = (REPOSITORY / "pyproject.toml").read_text()
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert {BACKENDS[name].extra for name in EXTRAS} <= set(extras)


def test_what_is_unused_is_a_setting():
    known = {*OFOptions.model_fields, *SessionConfig.model_fields, "const_assumption"}
    for entry in BACKENDS.values():
        assert set(entry.unused) <= known
        for param in entry.params:
            assert param.default is None or param.is_allowed(param.default)
            assert param.description.endswith(".")


@pytest.mark.usefixtures("without_extras")
@pytest.mark.parametrize("name", EXTRAS)
def test_a_backend_that_is_not_installed(name):
    entry = BACKENDS[name]
    found = availability(name)
    assert not found.available
    assert f"{entry.imports[0]} is not installed" in found.why
    assert f'pip install -e "{REPOSITORY}[{entry.extra}]"' in found.why
    with pytest.raises(BackendError, match=f"flow_backend {name} is not available"):
        get_backend(name)
    frame = np.random.default_rng(0).random((16, 16))
    with pytest.raises(BackendError, match=f"flow_backend {name} is not available"):
        get_displacement(frame, frame, backend=name)


def test_the_command_without_a_clone(monkeypatch):
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    assert backend_registry.install_command("torch") == 'python -m pip install ".[torch]"'


def pretend(monkeypatch, name, **functions):
    """Let a backend be installed, with a module of the test."""
    entry = BACKENDS[name]
    module = ModuleType(entry.module)
    vars(module).update(functions)
    find = importlib.util.find_spec
    there = {*entry.imports, entry.module}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: object() if n in there else find(n, *a)
    )
    monkeypatch.setitem(sys.modules, entry.module, module)


def test_a_backend_without_its_device(monkeypatch):
    asked = []

    def missing(values):
        asked.append(values)
        return "there is no such device"

    pretend(monkeypatch, "flowreg_cuda", missing=missing)
    # Jobs of a cluster run elsewhere.
    assert availability("flowreg_cuda", on_this_machine=False).available
    assert not asked
    with pytest.raises(BackendError, match="not available: there is no such device"):
        get_backend("flowreg_cuda", {"device": "cuda:3"})
    assert asked[0]["device"] == "cuda:3"


@pytest.mark.parametrize("kind", [ImportError, OSError])
def test_a_library_that_cannot_be_imported(monkeypatch, kind):
    def missing(values):
        raise kind("libcudart.so is missing")

    pretend(monkeypatch, "flowreg_cuda", missing=missing)
    assert availability("flowreg_cuda").why == "it cannot be imported (libcudart.so is missing)"


def test_settings_reach_a_backend_completed(monkeypatch):
    made = []
    pretend(monkeypatch, "flowreg_torch", missing=lambda values: None, create=made.append)
    get_backend("flowreg_torch", {"device": "mps"})
    assert made == [{"device": "mps", "dtype": None, "frames": None}]


def test_the_list(monkeypatch, capsys):
    monkeypatch.setattr(backend_registry, "_not_installed", lambda entry: None)
    module = SimpleNamespace(
        missing=lambda values: "no GPU" if values.get("device", "cpu") != "cpu" else None
    )
    monkeypatch.setattr(backend_registry, "import_module", lambda name: module)
    rows = [line.split(maxsplit=3) for line in table()]
    states = {(row[0], row[1] if row[1] != "available" else ""): row for row in rows}
    assert states["flowreg_torch", "cpu"][2] == "available"
    assert states["flowreg_torch", "cuda:0"][2:] == ["missing", "no GPU"]
    assert {row[0] for row in rows} == set(BACKENDS)
    assert cli.main(["backends"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(rows)


@pytest.mark.usefixtures("without_extras")
def test_the_list_tells_how_to_install(capsys):
    assert cli.main(["backends"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "available" in lines["flowreg"]
    for name in EXTRAS:
        assert "missing" in lines[name]
        assert f"[{BACKENDS[name].extra}]" in lines[name]


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        (
            "flowreg_torch",
            {"device": "gpu"},
            "'gpu' is not allowed; allowed: cuda:N or mps or cpu",
        ),
        ("flowreg_torch", {"device": 0}, "device: 0 is not allowed"),
        ("flowreg_torch", {"dtype": "float16"}, "one of float32, float64"),
        ("flowreg_torch", {"frames": 0}, "a whole number from 1 to 4096"),
        ("flowreg_torch", {"devcie": "cpu"}, "did you mean device"),
        ("flowreg_cuda", {"device": "cpu"}, "device: 'cpu' is not allowed"),
        ("diso", {"preset": "best"}, "one of ultrafast, fast, medium"),
        ("diso", {"variational_refinement_alpha": -1}, "a number of at least 0"),
        ("diso", {"use_mean_normalization": 1}, "true or false"),
        ("diso", {"patch_size": "8", "patch_stride": 4}, "patch_size: '8' is not allowed"),
        ("flowreg", {"preset": "fast"}, "preset: unknown key"),
    ],
)
def test_settings_of_a_backend(tmp_path, name, params, message):
    frame = np.zeros((16, 16))
    for make in (
        lambda: check_params(name, params),
        lambda: get_displacement(frame, frame, backend=name, backend_params=params),
        lambda: OFOptions(flow_backend=name, backend_params=params),
        lambda: SessionConfig(root=tmp_path, flow_backend=name, backend_params=params),
    ):
        with pytest.raises(ConfigError, match=message):
            make()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha_between": 9.0}, "alpha_between: 9.0 would have no effect, because .* diso"),
        ({"flow_options": {"alpha": 3}}, r"flow_options\.alpha: 3.* would have no effect"),
        ({"flow_options": {"quality_setting": "fast"}}, "quality_setting: 'fast' would have no"),
        ({"flow_options": {"min_level": 2}}, "^1 problem:\n.*min_level: 2 would have no effect"),
        ({"flow_options": {"weight": np.ones((1, 9, 9))}}, r"flow_options\.weight: is a map"),
        ({"stage2_constancy_assumption": "cs"}, "stage2_constancy_assumption: 'cs' would have"),
        ({"precision": "double"}, "single precision only"),
        ({"backend_params": {"patch_size": 8, "patch_stride": 9}}, "patch_stride: 9 is above"),
    ],
)
def test_settings_without_effect_are_refused(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        SessionConfig(root=tmp_path, flow_backend="diso", **settings)
    session = SessionConfig(root=tmp_path)
    for name, value in settings.items():
        if name != "backend_params":
            setattr(session, name, value)
            with pytest.raises(ConfigError):
                session.flow_backend = "diso"
            assert session.flow_backend == "flowreg"


def test_a_device_that_is_not_used_is_told(caplog):
    frame = np.random.default_rng(0).random((16, 16))
    get_displacement(frame, frame, backend_params={"device": "cuda:0"})
    assert "backend_params.device is not used by the backend flowreg" in caplog.text


@pytest.mark.parametrize("alpha", [1.5, (1.5, 1.5)])
def test_defaults_written_out_are_no_mistake(tmp_path, alpha):
    options = {"alpha": alpha, "quality_setting": "quality", "iterations": 50, "weight": [0.5, 0.5]}
    config = SessionConfig(
        root=tmp_path, flow_backend="diso", alpha_between=25.0, flow_options=options
    )
    assert config.options_for().flow_backend == "diso"


@pytest.mark.parametrize(
    "settings", [{"alpha": 1.5}, {"iterations": 7}, {"const_assumption": "gray"}, {"min_level": 1}]
)
def test_get_displacement_refuses_them_too(settings):
    frame = np.zeros((16, 16))
    with pytest.raises(ConfigError, match=rf"{next(iter(settings))}: .* no effect.* diso"):
        get_displacement(frame, frame, backend="diso", **settings)


@pytest.mark.parametrize("how", [{"precision": "double"}, {"backend_params": {"dtype": "float64"}}])
def test_no_double_precision_on_mps(tmp_path, how):
    params = {"device": "mps", **how.pop("backend_params", {})}
    with pytest.raises(ConfigError, match="float64 is not available on the device mps"):
        SessionConfig(root=tmp_path, flow_backend="flowreg_torch", backend_params=params, **how)


def test_what_results_depend_on(tmp_path):
    def made(**settings):
        return SessionConfig(root=tmp_path, **settings).settings_of_stage(1)

    torch = {"flow_backend": "flowreg_torch"}
    plain = made(**torch)
    assert plain != made()
    assert plain == made(**torch, backend_params={"device": "cuda:1", "frames": 3})
    assert plain != made(**torch, backend_params={"device": "cpu"})
    assert plain != made(**torch, backend_params={"dtype": "float64"})
    assert made() == made(backend_params={"device": "cuda:0"})
    assert result_params("diso", {"preset": "fast"}) != result_params("diso", {})


def plan(**settings):
    return Plan(SessionConfig(root="session", **settings), (), None)


@pytest.mark.parametrize(
    ("settings", "flow", "environment"),
    [
        ({}, 0, "cpu"),
        ({"flow_backend": "diso"}, 0, "diso"),
        ({"flow_backend": "flowreg_torch"}, 1, "torch"),
        ({"flow_backend": "flowreg_torch", "backend_params": {"device": "cpu"}}, 0, "torch"),
        ({"flow_backend": "flowreg_cuda"}, 1, "cuda"),
    ],
)
def test_what_jobs_ask_for(settings, flow, environment):
    jobs = plan(**settings)
    assert jobs.gpus == flow
    assert jobs.environment == f"../envs/{environment}.yaml"
    warps = BACKENDS[jobs.config.flow_backend].warps
    assert jobs.align_gpus == (flow if warps else 0)
    assert jobs.align_environment == (jobs.environment if warps else "../envs/cpu.yaml")


def test_memory_and_time_follow_the_backend():
    header = {"shape": [1000, 512, 512, 1], "itemsize": 2}
    own = resources.stage1_mem_mb(header, 4, precision="single")
    for name in EXTRAS:
        needs = plan(flow_backend=name).needs
        assert needs.chunk_bytes == BACKENDS[name].chunk_bytes
        if needs.libraries_mb:
            assert resources.stage1_mem_mb(header, 4, precision="single", needs=needs) > own
    slow = plan(flow_backend="flowreg_torch", backend_params={"device": "cpu"}).needs
    assert resources.stage1_runtime(header, needs=slow) > 5 * resources.stage1_runtime(header)
