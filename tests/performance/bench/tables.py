"""Numbers of repeated runs, and the Markdown tables made from them."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"
"""Marks around a block of a page."""


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Return minimum and median of repeated measurements, and how many there were."""
    if not seconds:
        raise ValueError("There is nothing to summarise.")
    return {
        "min": min(seconds),
        "median": statistics.median(seconds),
        "repeats": len(seconds),
    }


def ratio(slow: dict[str, float], fast: dict[str, float], of: str = "min") -> float:
    """Return how many times longer one takes than the other, minimum against minimum."""
    if not fast[of] > 0:
        raise ValueError(f"A time of {fast[of]} cannot be divided by.")
    return slow[of] / fast[of]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; columns after the first are aligned to the right."""
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"The row {list(row)} does not have {len(header)} columns.")
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "".join("| " + " | ".join(line) + " |\n" for line in (header, rule, *rows))


def digits(value: float | None, unit: str = "") -> str:
    """Return three significant digits, without exponent; a dash for nothing."""
    if value is None:
        return "-"
    if value == 0:
        return f"0{unit}"
    places = 2
    size = abs(value)
    while size >= 10 and places > 0:
        size, places = size / 10, places - 1
    while size < 1 and places < 6:
        size, places = size * 10, places + 1
    return f"{value:.{places}f}{unit}"


def span(times: dict[str, float] | None, factor: float = 1.0) -> str:
    """Return "minimum (median)" of a summary, times a factor."""
    if times is None:
        return "-"
    return f"{digits(times['min'] * factor)} ({digits(times['median'] * factor)})"


def times(value: float | None) -> str:
    """Return a ratio as "12.3x"."""
    return "-" if value is None else f"{digits(value)}x"


def mebibytes(size: float | None) -> str:
    """Return bytes as whole MiB."""
    return "-" if size is None else f"{size / 2**20:.0f}"


def machine_text(about: dict[str, Any], tools: Collection[str] | None = None) -> str:
    """Return one paragraph naming the machine, the day and the versions of some tools, or all."""
    versions = "; ".join(
        f"{tool}: " + ", ".join(f"{name} {version}" for name, version in found.items())
        for tool, found in about.get("versions", {}).items()
        if found and (tools is None or tool in tools)
    )
    simulated = ", ".join(f"{key} {value}" for key, value in about.get("simulation", {}).items())
    if simulated:
        versions += f". Frames simulated with {simulated}"
    return (
        f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB; {about['date']}, "
        f"commit {about['commit']}. {versions}.\n"
    )


def with_block(page: str, block: str, text: str) -> str:
    """Return a page with the text between the two marks of a block replaced."""
    begin, end = BEGIN.format(block), END.format(block)
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise ValueError(f"The page lacks the marks {begin} and {end}.")
    return f"{before}{begin}\n{text.strip()}\n{end}{after}"


def update_page(path: Path, block: str, text: str) -> None:
    """Replace the text between the two marks of a block of a file."""
    path.write_text(with_block(path.read_text("utf-8"), block, text), encoding="utf-8")
