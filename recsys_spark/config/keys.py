"""The keys of the configuration, read from its models: path, default, type and meaning of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from recsys_spark.config.root import Config


@dataclass(frozen=True)
class Key:
    """A key of the configuration."""

    path: tuple[str, ...]
    field: FieldInfo
    section: type[BaseModel] | None
    """The model of its value, where that is a section of keys."""

    @property
    def dotted(self) -> str:
        """The key as `--set` takes it."""
        return ".".join(self.path)


def keys(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[Key]:
    """Every key below `model`, sections before what is in them."""
    for name, field in model.model_fields.items():
        section = section_of(field.annotation)
        yield Key((*path, name), field, section)
        if section:
            yield from keys(section, (*path, name))


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds: itself, an optional one, or a list of them; a mapping's values have no keys."""
    if get_origin(annotation) is dict:
        return None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := section_of(argument))), None)


def meaning(key: Key) -> str:
    """What the field's docstring says, on one line."""
    assert key.field.description, f"{key.dotted} has no docstring"
    return " ".join(key.field.description.split())


def first_paragraph(model: type[BaseModel]) -> str:
    """The first paragraph of a section's docstring, on one line."""
    return " ".join((model.__doc__ or "").strip().partition("\n\n")[0].split())


def default_text(field: FieldInfo) -> str:
    """The default as Markdown, or `required`."""
    return "required" if field.is_required() else f"`{yaml_text(field.get_default(call_default_factory=True))}`"


def yaml_text(value: Any) -> str:
    """The value as YAML on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=10_000, sort_keys=False).removesuffix("...\n").strip()


def type_text(key: Key) -> str:
    """The type in plain words, from the JSON schema of the field."""
    if key.section:
        return "section, or a list of them" if key.dotted == "source" else "section"
    model = Config
    for part in key.path[:-1]:
        section = section_of(model.model_fields[part].annotation)
        assert section is not None
        model = section  # type: ignore[assignment]
    schema = model.model_json_schema()
    return _schema_text(schema["properties"][key.path[-1]])


def _schema_text(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_schema_text(option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_schema_text(schema.get('items', {}))}"
    if kind == "object":
        return f"mapping to {_schema_text(schema.get('additionalProperties', {}))}"
    words = {"null": "none", "boolean": "true or false", "string": schema.get("format", "text")}
    return words.get(kind, kind) + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    signs = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    found = [f"{sign} {schema[name]}" for name, sign in signs.items() if name in schema]
    return f" {', '.join(found)}" if found else ""
