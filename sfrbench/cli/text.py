"""Values as people read them."""

from __future__ import annotations

from typing import Any

from sfrbench.catalog.cards import Card
from sfrbench.catalog.fields import field_paths, nested
from sfrbench.components.base import Settings


def card_page(card: Card, gpu: str = "") -> str:
    """One card for a terminal: summary, source, and each field with its default, bounds and meaning; ``gpu``:
    what is here for a card that needs one."""
    cls = card.component_class
    default = card.component({})
    lines = [
        f"{card.kind}/{card.name}   {card.label}",
        f"  {card.summary}",
        f"  class   {card.target} (version {cls.version})",
        f"  card    {card.path}",
    ]
    if card.cite:
        lines.append(f"  cite    {card.cite}")
    if card.needs:
        lines.append(f"  needs   {', '.join(card.needs)}")
    if gpu:
        lines.append(f"  gpu     {gpu}")
    lines += [f"  {name}: {value}" for name, value in card.figures.items()]
    lines.append("  fields")
    for path in field_paths(cls):
        lines.append(_field_line(cls, default, path, card))
    return "\n".join(lines)


def _field_line(cls: type[Settings], default: Any, path: str, card: Card) -> str:
    *groups, name = path.split(".")
    owner: type[Settings] = cls
    value = default
    for group in groups:
        owner = nested(owner, group) or owner
        value = getattr(value, group)
    info = owner.model_fields[name]
    limits = [
        f"{sign} {getattr(rule, key)}"
        for rule in info.metadata
        for key, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"), ("multiple_of", "multiple of"))
        if getattr(rule, key, None) is not None
    ]
    kind = getattr(info.annotation, "__name__", "") if not hasattr(info.annotation, "__args__") else ""
    shown = kind or str(info.annotation).replace("typing.", "")
    searched = f"  search {card.search[path]}" if path in card.search else ""
    bounds = f"  ({', '.join(limits)})" if limits else ""
    meaning = f"  {info.description}" if info.description else ""
    return f"    {path} = {getattr(value, name)!r}  {shown}{bounds}{searched}{meaning}"
