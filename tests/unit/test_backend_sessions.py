"""Sessions through the other backends."""

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pyflowreg.core.parameters import FlowParameters
from pyflowreg.errors import BackendError, ConfigError
from pyflowreg.io.fields import iter_fields
from pyflowreg.session import SessionConfig
from pyflowreg.session.stage1_compensate import run_stage1
from pyflowreg.session.stage2_between_avgs import run_stage2
from pyflowreg.session.stage3_valid_mask import run_stage3

from ..backends import OTHERS, Choice, required
from .scenes import save_session, seen

pytestmark = pytest.mark.backends
if not OTHERS:
    pytest.skip("no other backend is installed", allow_module_level=True)

OFFSETS = [(0, 0), (2, 1), (-1.5, 2)]


@pytest.fixture(params=OTHERS, ids=lambda choice: choice.id)
def backend(request):
    return required(request.param)


def run(root, **settings):
    options = {"reference_frames": [0, 1, 2], "save_w": True, "sigma": [[1, 1, 0.6]]}
    config = SessionConfig(root=root, center="a.tif", flow_options=options, **settings)
    folders = run_stage1(config)
    _, _, fields = run_stage2(config)
    run_stage3(config)
    return np.concatenate([np.concatenate(list(iter_fields(f / "w.h5"))) for f in folders]), fields


def test_a_session(backend, tmp_path):
    for name in ("own", "flowreg"):
        save_session(tmp_path / name, "abc", OFFSETS, channels=2)
    own = {"flow_backend": backend.name, "backend_params": dict(backend.params)}
    w, fields = run(tmp_path / "own", **own)
    assert len(list((tmp_path / "own" / "final_results").glob("aligned_*.tif"))) == 3
    expected, expected_fields = run(tmp_path / "flowreg")
    assert np.abs(expected_fields[1]).mean() > 1
    tolerance = 2e-3 if backend.solves else 0.3
    assert np.abs(w - expected).mean() < tolerance
    assert np.abs(np.array(fields) - expected_fields).mean() < tolerance


@pytest.mark.parametrize("device", ["cuda:63", "cuda:128", "cuda:256", "cuda:99999999999"])
def test_torch_without_that_device(tmp_path, device):
    pytest.importorskip("torch")
    save_session(tmp_path, "a", OFFSETS[:1])
    config = SessionConfig(
        root=tmp_path, flow_backend="flowreg_torch", backend_params={"device": device}
    )
    with pytest.raises(ConfigError, match=f"so there is no {device}; choose another"):
        run_stage1(config)


def test_torch_has_as_many_threads_as_before():
    torch = pytest.importorskip("torch")
    from pyflowreg.core.backends.flowreg_torch import _alone

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as another:
            alone = {one: _alone(), another: _alone()}
            for pool, context in alone.items():
                pool.submit(context.__enter__).result()
                assert pool.submit(torch.get_num_threads).result() == 1
            for pool, context in alone.items():  # the first that came goes first
                pool.submit(context.__exit__, None, None, None).result()
        with ThreadPoolExecutor(1) as pool:
            later = pool.submit(torch.get_num_threads).result()
        assert (torch.get_num_threads(), later) == (3, 3)
    finally:
        torch.set_num_threads(before)


class TestTorchMemory:
    """What happens when a device runs out of memory; the CPU stands in for it."""

    @pytest.fixture
    def make(self, monkeypatch):
        torch = pytest.importorskip("torch")
        from pyflowreg.core.backends import flowreg_torch

        monkeypatch.setattr(flowreg_torch, "_free_bytes", lambda device: 2**40)
        monkeypatch.setattr(flowreg_torch.TorchPlan, "_on_threads", None)
        real, sizes = flowreg_torch.TorchPlan._computed, []

        def make(most):
            def limited(plan, moving, uv):
                sizes.append(len(moving))
                if len(moving) > most:
                    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")
                return real(plan, moving, uv)

            monkeypatch.setattr(flowreg_torch.TorchPlan, "_computed", limited)
            backend = flowreg_torch.TorchBackend(torch.device("cpu"), None, None)
            parameters = FlowParameters(iterations=3, levels=3)
            return backend.prepare(seen(24, 30)[..., None], parameters), sizes

        return make

    def test_goes_on_with_fewer_frames(self, make, caplog):
        plan, sizes = make(2)
        frames = np.stack([seen(24, 30, d)[..., None] for d in range(7)])
        out = np.empty((7, 24, 30, 2), np.float32)
        with caplog.at_level(logging.WARNING):
            plan._on_device(frames, None, out)
        assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
        assert "no memory for 7 frames (CUDA out of memory" in caplog.text
        alone = plan._computed(frames[4:5], None)
        np.testing.assert_array_equal(out[4:5], alone)

    def test_one_frame_is_too_much(self, make):
        plan, _ = make(0)
        out = np.empty((1, 24, 30, 2), np.float32)
        with pytest.raises(BackendError, match="does not hold one frame of 24 x 30 pixels"):
            plan._on_device(seen(24, 30)[None, ..., None], None, out)


@pytest.mark.parametrize("choice", [c for c in OTHERS if c.name == "flowreg_torch"], ids=str)
def test_what_is_set_for_torch(choice):
    required(choice)
    if choice.params["device"] == "mps":
        pytest.skip("the device has no double precision")
    frames = np.stack([seen(24, 30, d)[..., None] for d in (0.5, 1, -2)])

    def found(precision="single", **params):
        other = Choice(choice.name, {**choice.params, **params})
        how = {"iterations": 5, "precision": precision}
        return other.plan(seen(24, 30)[..., None], **how).displacements(frames)

    plain, exact = found(), found(dtype="float64")
    np.testing.assert_array_equal(found(frames=1), plain)
    np.testing.assert_array_equal(exact, found("double").astype(np.float32))
    np.testing.assert_array_equal(found("double", dtype="float32"), plain)
    assert exact.dtype == np.float32
    assert not np.array_equal(plain, exact)
