"""The allowed values of parameters, from the JSON schemas of the settings classes, in words."""

import importlib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from lib.core.parameters import read_stages
from lib.model.settings import find_settings
from lib.streams import base, build

Schema = dict[str, Any]


def section_schemas() -> dict[str, Schema]:
    """Return the JSON schema of each section, from the settings class of the stage that reads all of it."""
    schemas: dict[str, Schema] = {}
    for stage in read_stages():
        model = (
            build.make_parameters_model(stage)
            if stage in base.list_names()
            else importlib.import_module(f"stages.{stage}").Parameters
        )
        complete = model.model_json_schema(by_alias=True)
        for section, schema in complete["properties"].items():
            if section not in schemas or section == stage:
                schemas[section] = {**schema, "$defs": complete.get("$defs", {})}
    return schemas


def allowed_at(schemas: Mapping[str, Schema], values: Mapping[str, Any], key: str) -> str:
    """Return the allowed values of a key in words."""
    section, *names = key.split(".")
    schema = schemas[section]
    defs = schema["$defs"]
    if section == "model" and names[:1] == ["encoders"]:
        kind = values["model"]["encoders"][names[1]]["kind"]
        settings: type[BaseModel] = find_settings(kind)
        schema, names = settings.model_json_schema(by_alias=True), names[2:]
        defs = schema.get("$defs", {})
    for name in names:
        schema = resolve(schema, defs, name)
        if name not in schema.get("properties", {}):
            schema = schema.get("additionalProperties", {})
        else:
            schema = schema["properties"][name]
        if not isinstance(schema, dict):
            return ""
    return in_words(schema, defs)


def resolve(schema: Schema, defs: Mapping[str, Schema], name: str) -> Schema:
    """Return the schema that a reference points to, or the alternative of `anyOf` or `allOf` with the key `name`."""
    if "$ref" in schema:
        return resolve(defs[schema["$ref"].rsplit("/", 1)[1]], defs, name)
    for part in schema.get("anyOf", []) + schema.get("allOf", []):
        inner = resolve(part, defs, name)
        if name in inner.get("properties", {}) or inner.get("additionalProperties"):
            return inner
    return schema


def in_words(schema: Schema, defs: Mapping[str, Schema]) -> str:
    """Return a JSON schema in words, for instance "integer, 1 to 64, or null"."""
    if "$ref" in schema:
        return in_words(defs[schema["$ref"].rsplit("/", 1)[1]], defs)
    if "anyOf" in schema:
        parts = [in_words(part, defs) for part in schema["anyOf"]]
        return " or ".join(dict.fromkeys(part for part in parts if part))
    if "enum" in schema or "const" in schema:
        return " | ".join(f"`{show(value)}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        inner = in_words(schema.get("items", {}), defs)
        return f"list of: {inner}" if inner else "list"
    if kind == "object":
        return "mapping"
    words = {
        "boolean": "`true` | `false`",
        "null": "`null`",
        "string": "text",
        "integer": "integer",
        "number": "number",
    }
    return words.get(str(kind), "") + format_range(schema)


def format_range(schema: Schema) -> str:
    """Return the limits of a number in words."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f", {low:g} to {high:g}" if max(abs(low), abs(high)) < 1e6 else f", from {low:g}"
    limits = [
        f"{word} {schema[name]:g}"
        for name, word in (
            ("minimum", "from"),
            ("exclusiveMinimum", "above"),
            ("maximum", "up to"),
            ("exclusiveMaximum", "below"),
        )
        if name in schema
    ]
    return "".join(f", {limit}" for limit in limits)


def show(value: Any) -> str:
    """Return a value as YAML writes it in a line."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(map(show, value))}]"
    return "{}" if value == {} else str(value)
