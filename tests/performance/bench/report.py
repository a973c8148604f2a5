"""The whole report, and the short one for the README, from saved results."""

from __future__ import annotations

import importlib
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
    return f"# Benchmarks\n\n{machine_text(results['about'])}\n{body}"


def readme_blocks(results: dict[str, Any]) -> dict[str, str]:
    """Return the text of every block of the README whose sections were all measured."""
    about = results["about"]
    texts = {}
    if set(README_BLOCKS["benchmark"]) <= set(results["sections"]):
        body = _sections(results, README_BLOCKS["benchmark"], "###")
        others = [title for name, title in TITLES.items() if name != "backends"]
        texts["benchmark"] = f"## {README_TITLE}\n\n{body}\n{machine_text(about, others)}"
    if "backends" in results["sections"]:
        body = section_backends.table(results["sections"]["backends"])
        texts["backends"] = f"{body}\n{machine_text(about, [TITLES['backends']])}"
    return texts
