"""A page for each kind of component, made from its interface, its cards and their classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from docs.tools.words import code, count, docstring, may_be, plain, table, value
from sfrbench.catalog.cards import Card, Catalog
from sfrbench.catalog.code import BASES
from sfrbench.catalog.fields import field_paths
from sfrbench.catalog.schema import Components, Definitions, Schema
from sfrbench.components.base import (
    KINDS,
    Backbone,
    Component,
    Dataset,
    Finetune,
    Foundation,
    Prompter,
    Settings,
    Ssl,
)

#: What each kind is, in a line, for the index.
TITLES = {
    "dataset": "Datasets",
    "stitch": "Stitching",
    "foundation": "Foundation models",
    "finetune": "Fine-tuning",
    "backbone": "Segmenters",
    "ssl": "Semi-supervised methods",
    "selector": "Selectors",
    "prompter": "Simulated users",
    "protocol": "Protocols",
}
_HEAD = ("field", "default", "may be", "meaning")


def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown."""
    components = Components(Catalog.read(), Definitions())
    return {f"reference/components/{kind}.md": _page(kind, components) for kind in KINDS}


def tables() -> dict[str, str]:
    catalog = Catalog.read()
    rows = [
        (f"[{TITLES[kind]}]({kind}.md)", code(kind), str(len(catalog.names(kind))), _first(BASES[kind]))
        for kind in KINDS
    ]
    return {"kinds": table(("kind", "key", "cards", "what it is"), rows)}


def _first(cls: type[Component]) -> str:
    """The first sentence of a docstring."""
    return docstring(cls).partition("\n\n")[0].partition(". ")[0].removesuffix(".")


def _page(kind: str, components: Components) -> str:
    cards = components.cards[kind]
    first: dict[type[Component], Card] = {}
    for card in sorted(cards, key=lambda card: (len(card.preset), card.name)):
        first.setdefault(card.component_class, card)
    rows = [(f"[`{card.name}`](#{card.name})", plain(card.label), plain(card.summary)) for card in cards]
    parts = [f"# {TITLES[kind]}", docstring(BASES[kind])]
    if kind in ("ssl", "finetune"):
        parts.append("What trainings take of a GPU's memory: [GPU memory](../../memory.md).")
    parts += ["## Cards", table(("card", "in tables", "summary"), rows)]
    if shared := _shared(kind, components):
        parts += [f"## Fields of every {kind} {{#fields}}", shared]
    for card in cards:
        parts += _card(card, first[card.component_class], components)
    return "\n\n".join(filter(None, parts)) + "\n"


def _defaults(cls: type[Settings]) -> dict[str, Any]:
    """The default of each field of a class by path; those that have to be given are missing."""
    found: dict[str, Any] = {}
    for path in field_paths(cls):
        head, *inner = path.split(".")
        info = cls.model_fields[head]
        if not info.is_required():
            found[path] = _at(info.get_default(call_default_factory=True), inner)
    return found


def _at(settings: Any, path: list[str]) -> Any:
    for name in path:
        settings = getattr(settings, name)
    return settings


def _shared(kind: str, components: Components) -> str:
    base = BASES[kind]
    defaults = _defaults(base)
    schemas = _schemas(base, components)
    return table(_HEAD, [_row(path, schemas[path], defaults, components) for path in field_paths(base)])


def _schemas(cls: type[Component], components: Components) -> Mapping[str, Schema]:
    known = components.classes[cls.kind]
    return known[cls] if cls in known else components.paths_of(cls)


def _row(path: str, schema: Schema, values: Mapping[str, Any], components: Components) -> tuple[str, ...]:
    default = value(values[path]) if path in values else "by card"
    told = plain(schema.get("description", ""))
    return code(path), default, may_be(schema, components.definitions), told


def _card(card: Card, first: Card, components: Components) -> list[str]:
    """A card's section: facts, then its class where it is the first card of it, else what it presets."""
    parts = [f"## {card.name} {{#{card.name}}}", plain(card.summary), table(("", ""), _facts(card))]
    if card is not first:
        return [*parts, f"Of the class of [`{first.name}`](#{first.name}), with its fields."]
    cls, component = card.component_class, card.component({})
    base = _defaults(BASES[card.kind])
    own = {path: _at(component, path.split(".")) for path in field_paths(cls)}
    schemas = _schemas(cls, components)
    shown = [path for path in own if path not in base or own[path] != base[path]]
    rows = [_row(path, schemas[path], own, components) for path in shown]
    others = f"The other fields are [those of every {card.kind}](#fields)." if base else ""
    return [*parts, docstring(cls), table(_HEAD, rows), others]


def _facts(card: Card) -> Iterator[tuple[str, str]]:
    cls = card.component_class
    yield "name in tables", plain(card.label)
    if card.cite:
        yield "source", code(card.cite)
    if card.needs:
        yield "needs", ", ".join(card.needs)
    yield "class", f"`{card.target}`, version {cls.version}"
    yield from _own(card.component({}))
    if card.preset:
        yield "preset", "<br>".join(f"`{path}`: {value(each)}" for path, each in _flat(card.preset).items())
    for path, span in card.search.items():
        yield f"search range of `{path}`", _range(span)
    for name, figure in card.figures.items():
        yield name.replace("_", " "), count(figure) if isinstance(figure, int) else plain(str(figure))


def _backbone(component: Backbone) -> Iterator[tuple[str, str]]:
    if component.parts is not None:
        yield "gives methods", ", ".join(sorted(component.parts)) or "logits alone"
    dataset = Catalog.read().card("dataset", "la").component({})
    settled = component.settled({"dataset": dataset})
    assert isinstance(dataset, Dataset)
    assert isinstance(settled, Backbone)
    where = f"for LA ({' × '.join(map(str, dataset.patch))}, 2 classes)"
    yield "sides of a patch", "multiples of " + ", ".join(map(str, settled.multiples))
    if cost := settled.cost(dataset.patch, 2):
        flops = cost.whole.forward / 1e9
        yield where, f"{count(cost.parameters)} parameters, {flops:,.0f} GFLOPs for a forward pass; counted"


def _flat(preset: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, each in preset.items():
        found |= _flat(each, f"{before}{name}.") if isinstance(each, Mapping) else {before + name: each}
    return found


def _range(span: Any) -> str:
    if isinstance(span, Mapping) and "low" in span:
        return f"{span['low']:g} to {span['high']:g}{', on a log scale' if span.get('log') else ''}"
    if isinstance(span, Mapping):
        return " or ".join(value(each) for each in span["choices"])
    return f"{span[0]:g} to {span[1]:g}"


def _own(component: Component) -> Iterator[tuple[str, str]]:
    """What a component of its kind says about itself beside its fields."""
    match component:
        case Foundation():
            yield "semantic head", "yes" if component.semantic else "no: it segments from prompts alone"
            yield "prompts", ", ".join(sorted(component.takes)) or "none"
            if component.weights:
                yield "weight file", code(component.weights.partition("@")[0])
        case Finetune():
            yield "image encoders", ", ".join(map(plain, component.encoders)) or "any"
        case Backbone():
            yield from _backbone(component)
        case Ssl():
            yield "asks of the segmenter", ", ".join(sorted(component.asks())) or "logits alone"
            yield (
                "unlabelled patches",
                "used" if component.uses_unlabelled else "with SFR's pseudo-labels only",
            )
            yield "averaged teacher", "yes" if component.needs_teacher else "no"
        case Prompter():
            yield "says", ", ".join(sorted(component.forms)) or "nothing"
        case Dataset() if not component.needs_root:
            yield "data", "generated, no folder is needed"
        case Dataset():
            yield "folder", f"`$SFRBENCH_DATA/{component.folder}`" if component.folder else "by `--data`"
        case _:
            return
