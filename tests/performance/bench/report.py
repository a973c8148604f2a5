"""The whole report, and the short one for the README, from saved results."""

from __future__ import annotations

import importlib
from typing import Any

from bench.tables import machine_text

SECTIONS = [
    "flow",
    "stage1",
    "accuracy",
    "memory",
    "lasting",
    "checkpoint",
    "scaling",
    "stage3",
    "startup",
    "session",
]
README_TITLE = "Speed, memory and errors beside other programs"
README_SECTIONS = ["flow", "stage1", "accuracy", "memory", "stage3"]


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


def readme_text(results: dict[str, Any]) -> str:
    """Return the tables that the README shows."""
    body = _sections(results, README_SECTIONS, "###")
    return f"## {README_TITLE}\n\n{body}\n{machine_text(results['about'])}"
