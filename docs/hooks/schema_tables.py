"""Tables of fields from JSON schemas: what goes over HTTP, and the manifest of each family of artifacts.

MkDocs loads hooks by their path, so that `reference_tables` reads this file with `run_path`.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any

_UNITS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "above {}",
    "exclusiveMaximum": "below {}",
}


def wire_tables() -> str:
    """Each schema of the OpenAPI document, in alphabetical order: its fields, their types and meanings."""
    from pathlib import Path

    from service.app import create_app
    from service.settings import Settings

    with TemporaryDirectory() as folder:
        described = create_app(Settings(database_directory=Path(folder))).openapi()
    return _tables(described["components"]["schemas"])


def artifact_tables() -> str:
    """``artifact.json`` of each family, and what these hold."""
    from pydantic.json_schema import models_json_schema

    from models.artifact import LwlmManifest, MateformerManifest, TrajectoryManifest

    families = (MateformerManifest, TrajectoryManifest, LwlmManifest)
    _, described = models_json_schema([(family, "validation") for family in families])
    manifests = {family.__name__ for family in families}
    schemas = dict(sorted(described["$defs"].items(), key=lambda named: (named[0] not in manifests, named[0])))
    return _tables(schemas)


def _tables(schemas: dict[str, Any]) -> str:
    return "\n\n".join(_section(name, schema, schemas) for name, schema in schemas.items() if schema.get("properties"))


def _section(name: str, schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    lines = ["| Field | Type | Meaning |", "| --- | --- | --- |"]
    for field, one in schema["properties"].items():
        absent = "" if field in required else ", may be absent"
        meaning = _meaning_of(one) or _said_of(_referred(one, schemas)) or "-"
        lines.append(f"| `{field}` | {_cell(_type_of(one))}{absent} | {_cell(meaning)} |")
    return f"### {name}\n\n{_said_of(schema)}\n\n" + "\n".join(lines)


def _type_of(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if members := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_type_of(one) for one in members if one.get("type") != "null"))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        items = [_type_of(one) for one in schema.get("prefixItems", ())] or [_type_of(schema.get("items", {}))]
        return f"list of {', '.join(dict.fromkeys(items))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type_of(schema['additionalProperties'])} by name"
    bounds = [text.format(f"{schema[key]:g}") for key, text in _UNITS.items() if key in schema]
    return ", ".join([schema.get("format") or schema.get("type") or "any", *bounds])


def _meaning_of(schema: dict[str, Any]) -> str:
    members = schema.get("anyOf") or schema.get("oneOf") or ()
    said = [schema.get("description"), *(one.get("description") for one in members)]
    return " ".join(" ".join(filter(None, said)).split())


def _referred(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema that a field refers to, if it has no other type."""
    referred: dict[str, Any] = schemas.get(schema.get("$ref", "").rpartition("/")[2], {})
    return referred


def _said_of(schema: dict[str, Any]) -> str:
    return " ".join(schema.get("description", "").split("\n\n")[0].split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
