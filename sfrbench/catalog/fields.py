"""The fields of a group of settings by dotted path."""

from __future__ import annotations

from sfrbench.components.base import Settings


def nested(cls: type[Settings], name: str) -> type[Settings] | None:
    """The settings class of a field, where the field is a group of fields."""
    annotation = cls.model_fields[name].annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Settings) else None


def field_paths(cls: type[Settings]) -> list[str]:
    """Every field of a settings class by dotted path."""
    paths = []
    for name in cls.model_fields:
        inner = nested(cls, name)
        paths += [name] if inner is None else [f"{name}.{path}" for path in field_paths(inner)]
    return paths


def field_exists(cls: type[Settings], path: str) -> bool:
    """Whether a dotted path names a field (or a group of fields) of a settings class."""
    head, _, rest = path.partition(".")
    if head not in cls.model_fields:
        return False
    inner = nested(cls, head)
    return not rest or (inner is not None and field_exists(inner, rest))
