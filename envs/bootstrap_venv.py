"""Make a virtual environment with pip in it, with nothing but the standard library.

``python3 -m venv`` needs the module ensurepip, which Debian and Ubuntu put into a package of
its own (python3-venv). Where it is missing, the environment is made without pip and pip is
taken from its wheel on the package index, whose checksum the index states. The index is the one
pip itself would use: ``PIP_INDEX_URL``, then pip's configuration files, then PyPI.

Usage: ``python3 envs/bootstrap_venv.py .venv``
"""

from __future__ import annotations

import argparse
import configparser
import hashlib
import html.parser
import importlib
import json
import logging
import os
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger("bootstrap")

DEFAULT_INDEX = "https://pypi.org/simple"
WHEEL = re.compile(r"^pip-(?P<version>\d+(?:\.\d+)*)-py3-none-any\.whl$")
ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"


class BootstrapError(Exception):
    """The environment cannot be made; the message says what to do."""


class Wheel(NamedTuple):
    """One pip wheel an index offers."""

    version: tuple[int, ...]
    url: str
    sha256: str
    requires_python: str


class _Links(html.parser.HTMLParser):
    """Collect the anchors of a PEP 503 page."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.anchors.append({key: value or "" for key, value in attrs})


def pip_setting(name: str) -> str:
    """Value of a pip option as pip would find it: environment first, then its files."""
    variable = "PIP_" + name.upper().replace("-", "_")
    if os.environ.get(variable):
        return os.environ[variable]
    home = Path.home()
    files = [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        Path(os.environ.get("XDG_CONFIG_HOME", str(home / ".config"))) / "pip" / "pip.conf",
    ]
    if os.environ.get("PIP_CONFIG_FILE"):
        files.append(Path(os.environ["PIP_CONFIG_FILE"]))
    parser = configparser.RawConfigParser()
    parser.read(files, encoding="utf-8")
    for section in ("install", "global"):
        if parser.has_option(section, name):
            return parser.get(section, name).strip()
    return ""


def fetch(url: str, accept: str = "*/*") -> tuple[bytes, str, str]:
    """Body, content type and final address of a URL."""
    if url.startswith("file:") and url.endswith("/"):
        url += "index.html"
    request = urllib.request.Request(url, headers={"Accept": accept})
    handlers: list[urllib.request.BaseHandler] = []
    handlers.append(
        urllib.request.HTTPSHandler(
            context=ssl.create_default_context(cafile=pip_setting("cert") or None)
        )
    )
    proxy = pip_setting("proxy")
    if proxy:
        handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
    opener = urllib.request.build_opener(*handlers)
    timeout = float(pip_setting("timeout") or pip_setting("default-timeout") or 60)
    with opener.open(request, timeout=timeout) as answer:
        return answer.read(), answer.headers.get("Content-Type", ""), answer.geturl()


def listed_wheels(index: str) -> Iterator[Wheel]:
    """Every usable pip wheel an index lists, with its stated SHA-256."""
    body, kind, address = fetch(index.rstrip("/") + "/pip/", ACCEPT)
    if "json" in kind:
        entries = [
            (f["filename"], f["url"], f.get("hashes", {}).get("sha256", ""), f)
            for f in json.loads(body)["files"]
        ]
    else:
        links = _Links()
        links.feed(body.decode("utf-8", "replace"))
        entries = []
        for anchor in links.anchors:
            url, _, fragment = anchor.get("href", "").partition("#")
            name = urllib.parse.unquote(url.rsplit("/", 1)[-1])
            stated = urllib.parse.parse_qs(fragment).get("sha256", [""])[0]
            extra = {key.removeprefix("data-"): value for key, value in anchor.items()}
            entries.append((name, url, stated, {**extra, "yanked": "yanked" in extra}))
    for name, url, stated, extra in entries:
        match = WHEEL.match(name)
        if match and stated and not extra.get("yanked"):
            version = tuple(int(part) for part in match["version"].split("."))
            yield Wheel(
                version,
                urllib.parse.urljoin(address, url),
                stated,
                extra.get("requires-python") or "",
            )


def suits_this_python(requires: str) -> bool:
    """Whether the lower bound of a requires-python string is met."""
    bound = re.search(r">=\s*(\d+)\.(\d+)", requires)
    return bound is None or sys.version_info[:2] >= (int(bound[1]), int(bound[2]))


def find_wheel() -> Wheel:
    """Newest pip wheel for this Python on the configured indexes."""
    indexes = [pip_setting("index-url") or DEFAULT_INDEX, *pip_setting("extra-index-url").split()]
    failures = []
    for index in indexes:
        try:
            wheels = [wheel for wheel in listed_wheels(index) if suits_this_python(wheel[3])]
        except (OSError, ValueError, KeyError) as error:
            failures.append(f"{index}: {error}")
            continue
        if wheels:
            return max(wheels)
        failures.append(f"{index}: lists no pip wheel with a checksum for this Python")
    raise BootstrapError(
        "pip is not installed and could not be downloaded:\n  "
        + "\n  ".join(failures)
        + "\nCheck the network (or PIP_INDEX_URL), or install the system package python3-venv."
    )


def install_pip(python: Path) -> None:
    """Install pip into the environment of `python` from the index's wheel."""
    wheel = find_wheel()
    logger.info("Taking pip %s from %s", ".".join(map(str, wheel.version)), wheel.url)
    body, _, _ = fetch(wheel.url)
    found = hashlib.sha256(body).hexdigest()
    if found != wheel.sha256:
        raise BootstrapError(
            f"{wheel.url} has SHA-256 {found}, but its index states {wheel.sha256}. "
            "Nothing was installed; try again, or use another index through PIP_INDEX_URL."
        )
    with tempfile.TemporaryDirectory() as folder:
        name = urllib.parse.unquote(urllib.parse.urlsplit(wheel.url).path.rsplit("/", 1)[-1])
        path = Path(folder) / name
        path.write_bytes(body)
        subprocess.run(
            [python, path / "pip", "install", "--quiet", "--no-index", "--no-deps", path],
            check=True,
        )


def works(python: Path) -> bool:
    """Whether the environment exists and has a working pip."""
    if not python.exists():
        return False
    run = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False)
    return run.returncode == 0


def has_ensurepip() -> bool:
    """Whether the standard library can install pip by itself (Debian may have left that out)."""
    try:
        ensurepip = importlib.import_module("ensurepip")
        return bool(ensurepip.version())
    except (ImportError, AttributeError, OSError):
        return False


def make_environment(folder: Path) -> None:
    """Make, or keep, the environment in `folder`."""
    python = folder / "bin" / "python"
    if works(python):
        return
    logger.info("Making %s with Python %s", folder, sys.version.split()[0])
    if has_ensurepip():
        try:
            venv.create(folder, clear=True, symlinks=True, with_pip=True)
        except subprocess.CalledProcessError:
            logger.info("ensurepip does not work here.")
    if not works(python):
        venv.create(folder, clear=True, symlinks=True, with_pip=False)
        install_pip(python)
    if not works(python):
        raise BootstrapError(f"{folder} was made, but pip does not start in it.")


def main() -> int:
    """Command line: make the environment named by the only argument."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description="Make a virtual environment that has pip.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if sys.version_info < (3, 11):  # noqa: UP036 - this file runs before anything is installed
        logger.error("Python 3.11 or newer is needed, this is %s.", sys.version.split()[0])
        return 2
    try:
        make_environment(folder)
    except (BootstrapError, urllib.error.URLError) as error:
        logger.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
