"""Which files a kernel is made of."""

from pyflowreg.core.compilation.sources import Sources


def test_sources_follow_imports(tmp_path):
    files = {
        "__init__.py": "",
        "a.py": "from pack.sub.b import x\nimport os\n",
        "sub/__init__.py": "",
        "sub/b.py": "    from pack import c\n",
        "c.py": "",
        "d.py": "import pack.a\n",
        "sub/e.py": "from . import b\n",
    }
    folder = tmp_path / "pack"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    sources = Sources(folder, folder)

    def of(name):
        return {path.relative_to(folder).as_posix() for path in sources.files_of(folder / name)}

    assert of("c.py") == {"c.py"}
    # `from pack import c` may mean anything in the package.
    assert of("a.py") == set(files)
    assert of("sub/e.py") >= {"sub/e.py", "sub/b.py", "sub/__init__.py"}
    (folder / "sub" / "b.py").unlink()
    assert not sources.unchanged(folder / "a.py")
    assert sources.unchanged(folder / "c.py")
