"""The whole report, and the short one for the README, from saved results."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from typing import Any

from bench import section_backends
from bench.setup import TITLES
from bench.tables import machine_text

SECTIONS = [
    "flow",
    "stage1",
    "accuracy",
    "backends",
    "memory",
    "lasting",
    "checkpoint",
    "scaling",
    "stage3",
    "startup",
    "session",
]
README_TITLE = "Speed, memory and errors beside other programs"
README_BLOCKS = {
    "benchmark": ["flow", "stage1", "accuracy", "memory", "stage3"],
    "backends": ["backends"],
}
"""Sections between two marks of the README."""


def _sections(results: dict[str, Any], names: list[str], level: str) -> str:
    parts = []
    for name in names:
        if name in results["sections"]:
            section = importlib.import_module(f"bench.section_{name}")
            parts.append(f"{level} {section.TITLE}\n\n{section.table(results['sections'][name])}")
    return "\n".join(parts)


def full_text(results: dict[str, Any]) -> str:
    """Return every table."""
    body = _sections(results, SECTIONS, "##")
    return f"# Benchmarks\n\n{_machines(results, SECTIONS)}\n{body}"


def _machines(
    results: dict[str, Any], names: list[str], tools: Collection[str] | None = None
) -> str:
    """Tell where, when and with what these sections were measured, each only once."""
    about = results["about"]
    texts = [machine_text(about[name], tools) for name in names if name in about]
    return "\n".join(dict.fromkeys(texts))


def readme_blocks(results: dict[str, Any]) -> dict[str, str]:
    """Return the text of every block of the README whose sections were all measured."""
    texts = {}
    if set(README_BLOCKS["benchmark"]) <= set(results["sections"]):
        body = _sections(results, README_BLOCKS["benchmark"], "###")
        others = [title for name, title in TITLES.items() if name != "backends"]
        machines = _machines(results, README_BLOCKS["benchmark"], others)
        texts["benchmark"] = f"## {README_TITLE}\n\n{body}\n{machines}"
    if "backends" in results["sections"]:
        body = section_backends.table(results["sections"]["backends"])
        machines = _machines(results, ["backends"], [TITLES["backends"]])
        texts["backends"] = f"{body}\n{machines}"
    return texts
