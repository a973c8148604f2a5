"""The kernels compile for GPUs. Needs NVIDIA's compiler, but no GPU."""

import os
import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from emulated import HERE
from nvrtc import Nvrtc, kernels_in, libraries

from pyflowreg.core.compilation.store import FILE
from pyflowreg.core.cuda.compiling import machine_code, target
from pyflowreg.core.cuda.sources import KERNELS, OPTIONS, kernel_source

ARCHITECTURES = (70, 80, 90)
THOROUGH = bool(os.environ.get("PYFLOWREG_ALL_ARCHITECTURES"))
EXPORT = re.compile(r"EXPORT(?:_SOLVER|_LARGE)?\([\s\\]*(\w+)##name")


def exported():
    """Kernels that the source exports for float32, by name."""
    text = kernel_source()
    return {
        f"{name}f32" for name in EXPORT.findall(text) if "resize" not in name and "mark" not in name
    }


@pytest.mark.parametrize("library", libraries() or [None], ids=lambda path: path and path.name)
def test_nvrtc(library):
    if library is None:
        pytest.skip("nvrtc is not installed (python -m pip install nvidia-cuda-nvrtc-cu12)")
    nvrtc = Nvrtc(library)
    wanted = [arch for arch in ARCHITECTURES if arch in nvrtc.architectures]
    assert wanted
    for arch in wanted if THOROUGH else wanted[-1:]:
        binary = nvrtc.compile(kernel_source(), (*OPTIONS, f"-arch=sm_{arch}"))
        assert exported() <= kernels_in(binary)


def test_as_the_backend_compiles():
    cupy = pytest.importorskip("cupy", reason="cupy is not installed")
    if not libraries():
        pytest.skip("nvrtc is not installed")
    kept = {}
    store = SimpleNamespace(read=kept.get, write=kept.__setitem__)
    code = machine_code(cupy.cuda.nvrtc, 90, store)
    assert exported() <= kernels_in(code)
    assert list(kept.values()) == [code]
    assert FILE.fullmatch(*kept)  # what is old is removed
    nothing = SimpleNamespace(getSupportedArchs=lambda: [90], getVersion=cupy.cuda.nvrtc.getVersion)
    assert machine_code(nothing, 90, store) is code


def test_devices_newer_than_the_compiler():
    assert target(90, [80, 90]) == ("-arch=sm_90", True)
    assert target(121, [80, 90]) == ("-arch=compute_90", False)


def test_nvcc(tmp_path):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    if libraries() and not THOROUGH:
        pytest.skip("nvrtc is installed; PYFLOWREG_ALL_ARCHITECTURES=1 compiles with nvcc, too")
    command = [nvcc, "-cubin", "-arch=sm_90", *OPTIONS, "-Xptxas", "-v", str(KERNELS / "all.cu")]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "all.cubin")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    used = re.findall(
        r"Function properties for (\w+)\n\s+\d+ bytes stack frame, (\d+) bytes spill stores.*\n"
        r".*Used (\d+) registers",
        done.stderr,
    )
    registers = {name: int(count) for name, _, count in used}
    assert exported() <= registers.keys()
    # Two blocks of the solver, four of the others, on a multiprocessor of 65536 registers.
    assert max(registers.values()) <= 64
    assert {
        name: int(spilt) for name, spilt, _ in used if name.endswith("f32") and int(spilt)
    } == {}


def test_names_in_the_kernels_and_in_python_are_the_same():
    """Every kernel that Python launches exists."""
    folder = KERNELS.parent
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    launched = set(re.findall(r'f"(\w+_)\{(?:suffix|kind)', text))
    assert len(launched) >= 15
    assert launched <= {f"{name}" for name in EXPORT.findall(kernel_source())}


def test_package_holds_the_source():
    project = HERE.parents[1] / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    for suffix in {path.suffix for path in KERNELS.iterdir()}:
        assert f"core/cuda/kernels/*{suffix}" in text
