"""What the documentation shows exists and runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

from pyflowreg.session.cli import build_parser, parse_of_params
from pyflowreg.session.config import SessionConfig

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for pattern in ("*.md", "[a-z]*/*.md", "tests/*/*.md", "tests/data/*/*.md")
    for page in ROOT.glob(pattern)
    if not {"demo", "logs", "results", "benchmarks"} & set(page.relative_to(ROOT).parts)
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(page: Path, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(page.read_text("utf-8")) if name == language]


def shown(language: str) -> list[object]:
    return [
        pytest.param(body, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, body in enumerate(blocks(page, language))
    ]


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def command_lines() -> list[str]:
    lines = "\n".join(body for page in PAGES for body in blocks(page, "bash")).splitlines()
    return [line.split(" #")[0].strip() for line in lines if line.strip()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("body", shown("yaml"))
def test_settings_in_yaml_are_accepted(body):
    SessionConfig.from_mapping(yaml.safe_load(body))


@pytest.mark.parametrize("body", shown("toml"))
def test_settings_in_toml_are_accepted(body):
    SessionConfig.from_mapping(tomllib.loads(body))


@pytest.mark.parametrize("body", shown("python"))
def test_python_compiles(body):
    compile(body, "README", "exec")


def test_displacement_points_where_the_readme_says():
    (example,) = (b for b in blocks(ROOT / "README.md", "python") if "get_displacement" in b)
    names: dict[str, np.ndarray] = {}
    exec(compile(example, "README", "exec"), names)
    assert np.median(names["u"]) == pytest.approx(2, abs=0.05)
    assert np.median(names["v"]) == pytest.approx(0, abs=0.05)
    before, after = (names[k] - names["fixed"] for k in ("moving", "registered"))
    assert np.abs(after).mean() < 0.1 * np.abs(before).mean()


def test_commands_are_understood():
    commands = [line for line in command_lines() if line.startswith("pyflowreg-session ")]
    assert commands
    for line in commands:
        options = build_parser().parse_args(shlex.split(line)[1:])
        if options.command == "run":
            changes = parse_of_params(options.of_params)
            SessionConfig(root=".", flow_options=changes)


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    named = [line.split()[1:] for line in command_lines() if line.startswith("make ")]
    wanted = {word for words in named for word in words if "=" not in word}
    assert wanted
    assert wanted <= targets | {"help"}


def test_outputs_named_in_the_readme_are_those_of_a_session():
    from pyflowreg.session.outputs import session_paths

    paths = session_paths(SessionConfig(root="root"))
    files = paths.recording("<recording>")
    text = (ROOT / "README.md").read_text("utf-8")
    for path in (
        files.compensated,
        files.idx,
        files.temporal_average,
        files.reference_frame,
        files.statistics,
        files.w_to_reference,
        files.displacements,
        files.status,
        files.aligned,
        files.valid_png,
        files.aligned_valid_png,
        paths.final_png,
        paths.final_npz,
    ):
        assert f"`{path.name}`" in text, path.name


def test_pictures_are_small_and_in_the_repository():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).stat().st_size < 600_000


def test_citation_names_the_released_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert citation["version"] == project["version"]
    assert citation["preferred-citation"]["doi"] == "10.1002/jbio.202100330"


def test_help_lists_the_targets():
    text = subprocess.run(
        ["make", "--no-print-directory", "-C", str(ROOT), "help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "make demo" in text
    assert "make test" in text
