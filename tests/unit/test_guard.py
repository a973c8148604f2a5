from pathlib import Path

import pytest

import pyflowreg
from pyflowreg.errors import PyflowregError
from pyflowreg.workflow.guard import check_import_origin, check_own_package

SCRIPTS = Path(pyflowreg.__file__).parents[1]


def test_our_own_package_passes(tmp_path):
    check_own_package()
    check_import_origin(SCRIPTS)
    (tmp_path / "link").symlink_to(SCRIPTS)
    check_import_origin(tmp_path / "link")


def test_another_clone_is_refused(tmp_path):
    with pytest.raises(PyflowregError, match="pip install -e") as caught:
        check_import_origin(tmp_path / "scripts")
    assert str(SCRIPTS / "pyflowreg") in str(caught.value)


def test_another_package_of_that_name_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(pyflowreg, "__file__", str(tmp_path / "pyflowreg" / "__init__.py"))
    with pytest.raises(PyflowregError, match="another package of that name"):
        check_own_package()


def test_files_of_another_package_over_ours_are_refused(monkeypatch):
    monkeypatch.delattr(pyflowreg, "NUMERICS_REVISION")
    with pytest.raises(PyflowregError, match="pip uninstall"):
        check_own_package()
