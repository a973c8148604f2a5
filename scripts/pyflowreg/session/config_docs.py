"""The files in config/ that are made from the settings' own definitions.

``python -m pyflowreg.session.config_docs --write`` brings them up to date.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from pyflowreg.core.backend_registry import BACKENDS
from pyflowreg.motion_correction.options import CONSTANCY_ALIASES, OFOptions
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.flow_options import DECIDED, NEEDED, TOP_LEVEL
from pyflowreg.settings import allowed

COMMAND = "python -m pyflowreg.session.config_docs --write"
CONFIG_FOLDER = Path(__file__).parents[3] / "config"

_FIXED = ("n_references", "use_gpu", "preproc_funct")
FLOW_KEYS = tuple(
    name for name in OFOptions.model_fields if name not in (*DECIDED, *NEEDED, *TOP_LEVEL, *_FIXED)
)
"""The keys of `flow_options` that can be set to something in a file."""
_SHOWN = (
    "quality_setting",
    "alpha",
    "weight",
    "sigma",
    "reference_frames",
    "channel_normalization",
    "bin_size",
    "buffer_size",
    "save_w",
)
_SESSION_DEFAULTS = {"output_typename": "input"}
_SECTIONS = {
    "root": "The recordings",
    "output_root": "Where results go",
    "resume": "How it runs",
    "flow_backend": "The optical flow",
    "flow_options": "Stage 1: motion correction of each recording",
    "cc_upsample": "Stage 2: displacements between recordings",
    "align_chunk_size": "Stage 3: aligned recordings",
}
_EXAMPLE = {"root": "data"}
_EVIDENT = ("a path", "a text", "true or false", "a table of keys and values")

_NUMBER = {"type": "number"}
_NUMBERS = {"type": "array", "items": _NUMBER, "minItems": 1}
# What JSON schema cannot be told by the type alone.
_SCHEMAS: dict[str, dict[str, Any]] = {
    "alpha": {
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0},
            {
                "type": "array",
                "items": {"type": "number", "exclusiveMinimum": 0},
                "minItems": 1,
                "maxItems": 2,
            },
        ]
    },
    "weight": {"anyOf": [_NUMBER, {"type": "array", "minItems": 1}]},
    "a_data": {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1}, _NUMBERS]},
    "sigma": {
        "type": "array",
        "minItems": 1,
        "items": {"anyOf": [{"type": "number", "minimum": 0}, {**_NUMBERS, "maxItems": 3}]},
    },
    "reference_frames": {
        "anyOf": [
            {"type": "integer", "minimum": 0},
            {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
            {"type": "string"},
        ]
    },
    "output_typename": {"type": ["string", "null"]},
    "n_workers": {"anyOf": [{"const": -1}, {"type": "integer", "minimum": 1}]},
}


def plain_default(name: str, field: FieldInfo) -> Any:
    """Return the default of a key as a file shows it; an example for a required key.

    Parameters
    ----------
    name : str
        The key.
    field : FieldInfo
        Its definition in `SessionConfig` or `OFOptions`.

    Returns
    -------
    object
        Something JSON can hold.
    """
    if name in _EXAMPLE:
        return _EXAMPLE[name]
    if name in _SESSION_DEFAULTS:
        return _SESSION_DEFAULTS[name]
    value = field.get_default(call_default_factory=True)
    return json.loads(json.dumps(value, default=str))


def _yaml_value(value: Any) -> str:
    """Return a value as YAML on one line; JSON is YAML, but plain words need no quotes."""
    if value is None:
        return ""
    if isinstance(value, str) and value.replace("_", "").isalnum():
        return value
    return json.dumps(value)


def _yaml_lines(name: str, field: FieldInfo, *, indent: str = "", live: bool = True) -> list[str]:
    """Return a key with the explanation above it."""
    value = _yaml_value(plain_default(name, field))
    return [
        f"{indent}# {_explained(field)}",
        f"{indent}{'' if live else '# '}{name}: {value}".rstrip(),
    ]


def _explained(field: FieldInfo) -> str:
    """Return what a key does, and what it may be where its type does not say so."""
    text = (field.description or "").replace("`", "")
    words = allowed(field)
    return text if words in _EVIDENT else f"{text} [{words}]"


def render_yaml() -> str:
    """Return the text of config/config.yaml.

    Returns
    -------
    str
        Every key with its explanation and default; ends with a newline.
    """
    lines = [
        "# yaml-language-server: $schema=schema.json",
        "# The settings of a session. Copy this file for an experiment of your own and run",
        "#     snakemake -j 8 --configfile my_experiment.yaml",
        "# Only root is required: every other key may be left out and then has the value shown.",
        "# Words in [brackets] say what a value may be. More about every key: config/README.md.",
    ]
    for name, field in SessionConfig.model_fields.items():
        if name in _SECTIONS:
            lines += ["", f"# --- {_SECTIONS[name]} ---"]
        if name != "flow_options":
            lines += ["", *_yaml_lines(name, field)]
            continue
        lines += ["", f"# {_explained(field)}", "flow_options:"]
        for key in _SHOWN:
            lines += _yaml_lines(key, OFOptions.model_fields[key], indent="  ")
        lines += ["", "  # Less often needed; remove the # before a key to set it."]
        for key in FLOW_KEYS:
            if key not in _SHOWN:
                lines += _yaml_lines(key, OFOptions.model_fields[key], indent="  ", live=False)
    return "\n".join(lines) + "\n"


def _schema_of(name: str, field: FieldInfo, generated: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of one key."""
    kept = {key: value for key, value in generated.items() if key not in ("default", "title")}
    kept.pop("stages", None)
    result = {**_SCHEMAS[name]} if name in _SCHEMAS else kept
    if name.endswith("constancy_assumption"):
        result["enum"] = [*result["enum"], *CONSTANCY_ALIASES]
    result.pop("format", None)
    result["description"] = f"{field.description} Allowed: {allowed(field)}."
    if name not in _EXAMPLE:
        result["default"] = plain_default(name, field)
    return result


def render_schema() -> str:
    """Return the text of config/schema.json.

    Returns
    -------
    str
        JSON schema (draft 2020-12) of the settings; ends with a newline.
    """
    raw = SessionConfig.model_json_schema()["properties"]
    raw_flow = _flow_schema()
    properties = {
        name: _schema_of(name, field, raw[name])
        for name, field in SessionConfig.model_fields.items()
    }
    flow = {
        name: _schema_of(name, OFOptions.model_fields[name], raw_flow[name]) for name in FLOW_KEYS
    }
    for name in NEEDED:
        flow[name] = {"const": True, "description": "Always true in a session."}
    properties["flow_options"] = {
        "description": properties["flow_options"]["description"],
        "anyOf": [
            {"type": "string"},
            {"type": "object", "additionalProperties": False, "properties": flow},
            {"type": "null"},
        ],
    }
    for name in ("input_options", "backend_params"):
        properties[name]["type"] = ["object", "null"]
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of a pyflowreg session",
        "description": f"Made by `{COMMAND}`; do not edit.",
        "type": "object",
        "additionalProperties": False,
        "required": ["root"],
        "properties": properties,
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _flow_schema() -> dict[str, Any]:
    """Return pydantic's schema of the keys of `flow_options`; functions have none."""
    from pydantic import create_model

    fields: dict[str, Any] = {
        name: (OFOptions.model_fields[name].annotation, OFOptions.model_fields[name])
        for name in FLOW_KEYS
    }
    properties: dict[str, Any] = create_model("Flow", **fields).model_json_schema()["properties"]
    return properties


def _table(rows: Sequence[tuple[str, FieldInfo]]) -> str:
    lines = ["| key | default | allowed | what it does |", "|---|---|---|---|"]
    for name, field in rows:
        default = plain_default(name, field)
        shown = "required" if name in _EXAMPLE else f"`{json.dumps(default)}`"
        shown = "none" if default is None else shown
        cells = [f"`{name}`", shown, allowed(field), field.description or ""]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _backend_table() -> str:
    lines = ["| backend | key | default | allowed | what it does |", "|---|---|---|---|---|"]
    for entry in BACKENDS.values():
        for param in entry.params:
            default = "none" if param.default is None else f"`{json.dumps(param.default)}`"
            cells = [f"`{entry.name}`", f"`{param.name}`", default, param.allowed]
            lines.append("| " + " | ".join([*cells, param.description]) + " |")
    return "\n".join(lines)


def render_readme(text: str) -> str:
    """Return config/README.md with its generated tables replaced.

    Parameters
    ----------
    text : str
        The file as it is; everything outside the markers is kept.

    Returns
    -------
    str
        The file as it should be.

    Raises
    ------
    ValueError
        If the markers of a table are missing.
    """
    refused = [
        *(f"* `{key}`: {reason}." for key, reason in DECIDED.items()),
        *(f"* `{key}`: always true, {reason}." for key, reason in NEEDED.items()),
        f"* {', '.join(f'`{key}`' for key in TOP_LEVEL)}: keys of the session itself, see above.",
    ]
    blocks = {
        "session": _table(list(SessionConfig.model_fields.items())),
        "flow_options": _table([(name, OFOptions.model_fields[name]) for name in FLOW_KEYS]),
        "backend_params": _backend_table(),
        "refused": "\n".join(refused),
    }
    for name, block in blocks.items():
        start, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        before, found, rest = text.partition(start)
        _, found_end, after = rest.partition(end)
        if not found or not found_end:
            raise ValueError(f"README.md lacks the markers {start} and {end}.")
        text = f"{before}{start}\n{block}\n{end}{after}"
    return text


def rendered(folder: Path = CONFIG_FOLDER) -> dict[Path, str]:
    """Return every generated file and the text it should have.

    Parameters
    ----------
    folder : Path
        Holds README.md, whose text outside the tables is kept.

    Returns
    -------
    dict of Path to str
        Text by file; nothing is written.

    Raises
    ------
    FileNotFoundError
        If there is no README.md.
    ValueError
        If it lacks the markers of a table.
    """
    readme = folder / "README.md"
    return {
        folder / "config.yaml": render_yaml(),
        folder / "schema.json": render_schema(),
        readme: render_readme(readme.read_text(encoding="utf-8")),
    }


def drift(folder: Path = CONFIG_FOLDER) -> str:
    """Return a unified diff from the files to what they should be; empty if they agree.

    Parameters
    ----------
    folder : Path
        Holds the files; one that is missing counts as empty, but README.md must be there.

    Returns
    -------
    str
        The diff of all files.

    Raises
    ------
    FileNotFoundError
        If there is no README.md.
    ValueError
        If it lacks the markers of a table.
    """
    result: list[str] = []
    for path, text in rendered(folder).items():
        current = path.read_text(encoding="utf-8") if path.is_file() else ""
        result += difflib.unified_diff(
            current.splitlines(keepends=True),
            text.splitlines(keepends=True),
            f"config/{path.name}",
            f"config/{path.name} as it should be",
        )
    return "".join(result)


def main(argv: Sequence[str] | None = None) -> int:
    """Show how the files differ from what they should be, or write them.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; default those of the process.

    Returns
    -------
    int
        Exit status: 1 if the files differ and are not written.
    """
    parser = argparse.ArgumentParser(prog="python -m pyflowreg.session.config_docs")
    parser.add_argument("--write", action="store_true", help="bring the files up to date")
    arguments = parser.parse_args(argv)
    if arguments.write:
        for path, text in rendered().items():
            path.write_text(text, encoding="utf-8")
        return 0
    difference = drift()
    sys.stdout.write(difference)
    return int(bool(difference))


if __name__ == "__main__":
    sys.exit(main())
