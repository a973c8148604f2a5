"""Compiled kernels are used again when nothing changed, never when something did."""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import subprocess
import sys
import textwrap
import time

import numba
import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

import pyflowreg
from pyflowreg.core.backend_registry import BACKENDS
from pyflowreg.core.compilation import store as store_module
from pyflowreg.core.compilation.cache import KernelCache
from pyflowreg.core.compilation.store import LARGEST_FOLDER, UNUSED_SECONDS, Store, prune

JIT = """
    import numba
    from pyflowreg.core.compilation.cache import KernelCache
    from pyflowreg.core.compilation.log import CompileLog
    from pyflowreg.core.compilation.sources import Sources
    from pyflowreg.core.compilation.store import Store
    from pathlib import Path

    FOLDER = Path(__file__).resolve().parent
    SOURCES, STORE, LOG = Sources(FOLDER, FOLDER), Store(), CompileLog()

    def kernel(function):
        compiled = numba.njit(function)
        compiled._cache = KernelCache(function, SOURCES, STORE, LOG)
        return compiled
"""
HELPER = """
    import numba

    SCALE = 10.0

    @numba.njit(inline="always")
    def shifted(x):
        return x + 1.0
"""
OUTER = """
    from toy.helper import SCALE, shifted
    from toy.jit import kernel

    @kernel
    def inner(x):
        return SCALE * shifted(x)

    @kernel
    def outer(x):
        return inner(x)
"""
KERNELS = 2


class Toy:
    """A package with kernels; each `import_again` is what a new process would see."""

    def __init__(self, folder):
        self.folder = folder / "toy"
        self.folder.mkdir()
        (self.folder / "__init__.py").touch()
        for name, text in (("jit", JIT), ("helper", HELPER), ("outer", OUTER), ("other", "")):
            (self.folder / f"{name}.py").write_text(textwrap.dedent(text))

    def change(self, name, old, new):
        path = self.folder / f"{name}.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def import_again(self):
        self.forget()
        return importlib.import_module("toy.outer").outer

    @staticmethod
    def forget():
        for name in [name for name in sys.modules if name.split(".")[0] == "toy"]:
            del sys.modules[name]

    @staticmethod
    def compiled():
        """Kernels compiled since the last import."""
        return importlib.import_module("toy.jit").LOG.kernels

    def run(self, value=1.0):
        return self.import_again()(value), self.compiled()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder NUMBA_CACHE_DIR names."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    return folder / "pyflowreg-kernels"


@pytest.fixture
def toy(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Toy(tmp_path)
    Toy.forget()


def test_second_run_compiles_nothing(toy, cache):
    assert toy.run() == (20.0, KERNELS)
    assert toy.run() == (20.0, 0)
    assert len(list(cache.iterdir())) == KERNELS


def test_other_types_are_kernels_of_their_own(toy):
    toy.run()
    assert toy.run(np.float32(1)) == (20.0, KERNELS)
    assert toy.run() == (20.0, 0)
    assert toy.run(np.float32(1)) == (20.0, 0)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [("x + 1.0", "x + 2.0", 30.0), ("SCALE = 10.0", "SCALE = 20.0", 40.0)],
)
def test_a_change_in_another_file_compiles_again(toy, old, new, expected):
    toy.run()
    toy.change("helper", old, new)
    assert toy.run() == (expected, KERNELS)
    toy.change("helper", new, old)
    assert toy.run() == (20.0, 0)


def test_a_file_that_is_not_imported_does_not_matter(toy):
    toy.run()
    (toy.folder / "other.py").write_text("SCALE = 7.0\n")
    assert toy.run() == (20.0, 0)


def test_another_numba_compiles_again(toy, monkeypatch):
    toy.run()
    monkeypatch.setattr("pyflowreg.core.compilation.cache.VERSIONS", ("another",))
    assert toy.run() == (20.0, KERNELS)


def test_another_processor_compiles_again(toy, monkeypatch):
    toy.run()
    code = "numba.core.codegen.JITCPUCodegen.magic_tuple"
    monkeypatch.setattr(code, lambda self: ("x86_64", "older", "-avx"))
    assert toy.run() == (20.0, KERNELS)
    monkeypatch.undo()


def test_an_update_under_a_running_program_keeps_no_old_kernel(toy, cache):
    kernel = toy.import_again()
    toy.change("helper", "x + 1.0", "x + 2.0")
    assert kernel(1.0) == 20.0
    assert not cache.exists() or not list(cache.glob("*.kernel"))
    assert toy.run() == (30.0, KERNELS)


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_damaged_files_are_compiled_again(toy, cache, damage):
    toy.run()
    for path in cache.iterdir():
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(content if damage is None else damage)
    assert toy.run() == (20.0, KERNELS)
    assert toy.run() == (20.0, 0)


def test_a_payload_numba_cannot_restore_is_compiled_again(toy, cache):
    toy.run()
    import_store = importlib.import_module("toy.jit").STORE
    for path in list(cache.iterdir()):
        import_store.write(path.name, b"not a pickle")
    assert toy.run() == (20.0, KERNELS)


def test_a_disk_that_fails_costs_one_warning(toy, cache, monkeypatch, caplog):
    def fail(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    assert toy.run() == (20.0, KERNELS)
    (warning,) = [entry for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert "No space left on device" in warning.getMessage()
    assert "NUMBA_CACHE_DIR" in warning.getMessage()
    assert not list(cache.iterdir())


def test_compiling_is_said_once_and_only_when_it_happens(toy, cache, caplog):
    caplog.set_level(logging.INFO)
    toy.run()
    importlib.import_module("toy.jit").LOG.report()
    first, last = [entry.getMessage() for entry in caplog.records]
    assert first.startswith("Compiling kernels")
    assert str(cache) in first
    assert last.startswith(f"Compiled {KERNELS} kernels in")
    caplog.clear()
    importlib.import_module("toy.jit").LOG.report()
    toy.run()
    importlib.import_module("toy.jit").LOG.report()
    assert not caplog.records


CLOSES_ITS_LOG = """
import io, logging, sys, threading
sys.path.insert(0, sys.argv[1])
stream = io.StringIO()
logging.basicConfig(level=logging.INFO, stream=stream)
from toy.outer import outer
outer(1.0)
assert stream.getvalue().startswith("INFO:"), "Compiling kernels"
assert threading.active_count() == 1, "nobody may report later"
stream.close()
"""


def test_nothing_is_said_once_the_log_is_closed(toy):
    script = [sys.executable, "-c", CLOSES_ITS_LOG, str(toy.folder.parent)]
    empty = os.environ | {"NUMBA_CACHE_DIR": str(toy.folder / "empty")}
    done = subprocess.run(script, env=empty, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Nothing but the installation, a home and a temporary folder, all of them usable."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(store_module, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    for name in ("package", "home", "tmp"):
        (tmp_path / name).mkdir()
    return tmp_path


def block(folder):
    """Make a folder impossible, for root as well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("not a folder")


def test_kernels_are_kept_with_the_installation(places, caplog):
    assert Store().writable == places / "package" / "__pycache__" / "kernels"
    assert not caplog.records


def test_a_read_only_installation_uses_the_user_cache(places, caplog):
    block(places / "package" / "__pycache__")
    assert Store().writable == places / "home" / ".cache" / "pyflowreg" / "kernels"
    assert not caplog.records


def test_a_chosen_folder_is_the_only_one(places, monkeypatch):
    Store().write("k", b"with the installation")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(places / "chosen"))
    store = Store()
    assert store.read("k") is None
    store.write("k", b"chosen")
    assert (places / "chosen" / "pyflowreg-kernels" / "k").is_file()
    assert Store().read("k") == b"chosen"


def test_a_chosen_folder_that_cannot_be_written_is_replaced(places, monkeypatch):
    block(places / "chosen")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(places / "chosen"))
    assert Store().writable == places / "package" / "__pycache__" / "kernels"


def test_kernels_of_a_read_only_installation_are_used(places):
    Store().write("k", b"compiled by the administrator")
    reader = Store()
    reader.writable = None
    assert reader.read("k") == b"compiled by the administrator"


@pytest.mark.parametrize("home", ["/nonexistent/home", "{tmp}/home"])
def test_without_a_home_the_temporary_folder_is_used(places, monkeypatch, caplog, home):
    block(places / "package" / "__pycache__")
    block(places / "home" / ".cache")
    monkeypatch.setenv("HOME", home.format(tmp=places))
    folder = Store().writable
    assert folder.parent == places / "tmp"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "may not last" in caplog.text
    assert "NUMBA_CACHE_DIR" in caplog.text


def test_a_temporary_folder_others_could_write_to_is_not_used(places, caplog):
    block(places / "package" / "__pycache__")
    block(places / "home" / ".cache")
    folder = places / "tmp" / f"pyflowreg-kernels-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    store = Store()
    assert store.writable is None
    store.write("k", b"content")
    assert store.read("k") is None
    assert not list(folder.iterdir())
    assert "another user could write" in caplog.text
    assert caplog.text.count("cannot be kept") == 1


def test_unused_kernels_do_not_pile_up(tmp_path):
    names = [f"kernel-{number:032x}.kernel" for number in range(4)]
    now = time.time()
    for age, name in enumerate(names):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (now, now - age * 0.6 * UNUSED_SECONDS))
    os.truncate(tmp_path / names[1], LARGEST_FOLDER)
    os.utime(tmp_path / names[1], (now, now - 60))
    (tmp_path / "mine.txt").touch()
    os.utime(tmp_path / "mine.txt", (now, 0))
    prune(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {names[0], "mine.txt"}


def test_processes_that_compile_at_once(toy, cache, tmp_path):
    script = "from toy.outer import outer; import sys; sys.stdout.write(str(outer(1.0)))"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        "NUMBA_CACHE_DIR": str(cache.parent),
    }
    started = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    assert [process.communicate(timeout=120)[0] for process in started] == [b"20.0"] * 4
    assert toy.run() == (20.0, 0)
    assert len(list(cache.iterdir())) == KERNELS


def all_modules():
    """All that can be imported without the optional dependencies of backends."""
    found = pkgutil.walk_packages(pyflowreg.__path__, "pyflowreg.")
    names = [module.name for module in found if not module.name.endswith("__main__")]
    optional = {name for entry in BACKENDS.values() for name in entry.imports}
    modules = []
    for name in names:
        try:
            modules.append(importlib.import_module(name))
        except ModuleNotFoundError as error:
            if error.name not in optional:
                raise
    return modules


def test_every_kernel_of_the_package_is_kept_this_way():
    kernels = {
        value
        for module in all_modules()
        for value in vars(module).values()
        if isinstance(value, Dispatcher) and value.targetoptions.get("inline", "never") == "never"
    }
    assert kernels
    for kernel in kernels:
        assert isinstance(kernel._cache, KernelCache), kernel


NOTHING_IS_COMPILED = """
import sys
from pathlib import Path
from pyflowreg.core.compilation.log import compile_log
from pyflowreg.session.precompile import SETTINGS, run_session
for number, settings in enumerate(SETTINGS[:2]):
    folder = Path(sys.argv[1]) / str(number)
    folder.mkdir()
    run_session(folder, 1 + number, settings, "uint16")
    {check}
"""


def test_the_second_run_of_a_session_compiles_nothing(tmp_path):
    for run, check in (("first", ""), ("second", "assert compile_log.kernels == 0")):
        (tmp_path / run).mkdir()
        script = NOTHING_IS_COMPILED.format(check=check)
        subprocess.run([sys.executable, "-c", script, str(tmp_path / run)], check=True)
