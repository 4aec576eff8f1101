"""From layered choices to components: which card each kind of a cell uses, and with which fields."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pydantic import ValidationError

from sfrbench.catalog.cards import Card, Catalog
from sfrbench.catalog.faults import concerns, of_component
from sfrbench.catalog.fields import field_exists, field_paths
from sfrbench.components.base import Component, Dataset, Ssl
from sfrbench.errors import InputError, Problem, did_you_mean, shown
from sfrbench.files.atomic import canonical
from sfrbench.spec.model import Flat, Layer, Spec


@dataclass(frozen=True)
class Resolved:
    """A component of a cell, with the digest that stands for it in keys."""

    component: Component
    card: Card
    digest: str
    chosen: str = field(default="", compare=False)  # the name in the specification, where a profile swaps
    dropped: tuple[str, ...] = field(default=(), compare=False)  # given fields of that one alone

    @property
    def swapped(self) -> bool:
        """Whether the profile puts this component in the place of another one."""
        return self.chosen not in ("", self.card.name)

    @classmethod
    def of(cls, component: Component, card: Card) -> Resolved:
        return cls(component, card, digest(component.key_settings()))


def digest(value: Any) -> str:
    """A short hash of a JSON value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:32]


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """``{"optim.lr": 1}`` to ``{"optim": {"lr": 1}}``."""
    result: dict[str, Any] = {}
    for path, value in flat.items():
        *groups, name = path.split(".")
        place = result
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise InputError(f"'{group}' is given a value, and '{path}' a field of it", hint="keep one")
        place[name] = value
    return result


class Resolver:
    """Resolves kinds of cells and collects every problem, each once."""

    def __init__(self, spec: Spec, catalog: Catalog) -> None:
        self.spec = spec
        self.catalog = catalog
        self.problems: dict[Problem, None] = {}  # a set that keeps its order
        self._used_soft: set[str] = set()
        self.in_use: set[tuple[str, str]] = set()  # choices that reach a component: path, and where it stands
        self._known: dict[tuple[str, str], Resolved] = {}

    def layers(self, arm: Layer, axes: Sequence[Layer], here: Mapping[str, Any]) -> list[Layer]:
        """From weakest to strongest; ``here`` is the point (arm, and values by path) that they are for."""
        spec = self.spec
        local, over = (
            [entry.layer for entry in points if entry.holds(here)]
            for points in (spec.points, spec.overlay_points)
        )
        return [spec.base, *local, spec.profile.layer, spec.overlay, *over, arm, *axes, spec.sets]

    def switch(self, name: str, layers: Iterable[Layer], default: str) -> tuple[str, str]:
        """The value of a switch as ``pseudo``, and the chosen one where the profile swaps it (else "")."""
        chosen = default
        for layer in layers:
            chosen = layer.choices.get(name, chosen)
        value = self.spec.profile.instead(name, chosen)
        return value, chosen if value != chosen else ""

    def kind(self, kind: str, layers: Sequence[Layer], where: str) -> Resolved | None:
        """The component of ``kind``; None if it is wrong, which is then among the problems."""
        picks = [(layer.choices[kind], layer.where(kind)) for layer in layers if kind in layer.choices]
        if not picks:
            if {kind, "base"} & self.spec.unread:
                return None
            what = f"no {kind} is chosen"
            if any(problem.what == what for problem in self.problems):  # of an arm before
                return None
            self.add(where, what, f"add '{kind}: NAME' to base; known: {', '.join(self.catalog.names(kind))}")
            return None
        name, place = picks[-1]
        self.in_use.add((kind, place))
        if not isinstance(name, str):
            self.add(
                place,
                f"{kind}: a name is text, got {shown(name)}",
                f"known: {', '.join(self.catalog.names(kind))}",
            )
            return None
        try:
            picked = self.catalog.card(kind, name)
            family = picked.component_class.family
            card = self.catalog.card(kind, self.spec.profile.instead(kind, name, family))
            cls = card.component_class
            left = frozenset() if card is picked else picked.component_class.own_fields
        except InputError as error:
            for problem in error.problems:
                self.add(problem.where or place, f"{kind}: {problem.what}", problem.hint)
            return None
        fields, origin, sound = self._fields(kind, cls, layers, left)
        self.in_use.update((f"{kind}.{name}", where) for name, where in origin.items())
        if not sound:
            return None
        found = self._validate(card, kind, fields, origin, place)
        given = {path for layer in layers for path in layer.choices}
        dropped = tuple(name for name in sorted(left) if f"{kind}.{name}" in given)
        return None if found is None else replace(found, chosen=picks[-1][0], dropped=dropped)

    def _fields(
        self, kind: str, cls: type[Component], layers: Sequence[Layer], left: Collection[str]
    ) -> tuple[Flat, dict[str, str], bool]:
        """The fields that the layers give, where each is from, and whether all are sound; those that are
        ``left`` are of the component that the profile replaces."""
        fields: Flat = {}
        origin: dict[str, str] = {}
        sound = True
        known = field_paths(cls)
        for layer in layers:
            for path, value in layer.choices.items():
                if not path.startswith(f"{kind}."):
                    continue
                name = path.removeprefix(f"{kind}.")
                if name in left:
                    self._used_soft.add(path)
                elif name not in known and field_exists(cls, name):  # a group of fields
                    self._used_soft.add(path)
                    if value != {}:
                        what = f"{path}: a group of fields is needed, got {shown(value)}"
                        self.add(layer.where(path), what, f"as in {path}: {{FIELD: VALUE}}")
                        sound = False
                elif name in known:
                    fields[name], origin[name] = value, layer.where(path)
                    self._used_soft.add(path)
                elif not layer.soft:
                    what = f"{path}: no field '{name}' in {cls.__name__}"
                    self.add(layer.where(path), what, did_you_mean(name, known))
                    sound = False
        return fields, origin, sound

    def _validate(
        self, card: Card, kind: str, fields: Flat, origin: Mapping[str, str], place: str
    ) -> Resolved | None:
        memo = (f"{kind}/{card.name}", canonical(fields))
        if memo in self._known:
            return self._known[memo]
        try:
            component = card.component(unflatten(fields))
            with card.sound("key_settings"):
                self._known[memo] = Resolved.of(component, card)
        except InputError as error:
            for problem in error.problems:
                self.add(problem.where or place, f"{kind}: {problem.what}", problem.hint)
            return None
        except ValidationError as error:
            for path, what, hint in of_component(error, card.component_class):
                found = [name for name in origin if concerns(path, name)]
                self.add(origin[found[0]] if found else place, what, hint)
            return None
        return self._known[memo]

    def check_unused(self) -> None:
        """Fields of the specification that no component of any cell has are mistakes."""
        local = [entry.layer for entry in (*self.spec.points, *self.spec.overlay_points)]
        for layer in (self.spec.base, *local, self.spec.overlay, self.spec.sets):
            for path in layer.choices:
                if "." in path and path not in self._used_soft:
                    kind = path.partition(".")[0]
                    classes = [card.component_class for card in self.cards_in_use(kind)]
                    known = {name for cls in classes for name in field_paths(cls)}
                    name = path.partition(".")[2]
                    self.add(
                        layer.where(path),
                        f"{path}: no {kind} used here has a field '{name}'",
                        did_you_mean(name, known),
                    )

    def cards_in_use(self, kind: str) -> list[Card]:
        """The cards of a kind that cells have."""
        return [self.catalog.card(kind, name) for name in self._names(kind)]

    def _names(self, kind: str) -> list[str]:
        return sorted(
            {known.removeprefix(f"{kind}/") for known, _ in self._known if known.startswith(f"{kind}/")}
        )

    def conflicts(self, cell: Mapping[str, Resolved], place: Callable[[str], str], pseudo: str) -> None:
        """Combinations that make no sense, each with its reason, at the place of the kind that says so."""
        self._unlabelled(cell, place, pseudo)
        components = {kind: resolved.component for kind, resolved in cell.items()}
        for kind, resolved in cell.items():
            for reason in self._conflicts(resolved, components):
                self.add(
                    place(kind),
                    f"{kind} {resolved.card.name}: {reason}",
                    "change the one or the other, or exclude it",
                )

    def _unlabelled(self, cell: Mapping[str, Resolved], place: Callable[[str], str], pseudo: str) -> None:
        """A method that trains on unlabelled cases, or on labels of them, where the data are to have none."""
        if "ssl" not in cell or cast(Dataset, cell["dataset"].component).unlabeled != 0:
            return
        ssl = cast(Ssl, cell["ssl"].component)
        who = f"ssl {cell['ssl'].card.name}" if ssl.uses_unlabelled or ssl.relabels else f"pseudo {pseudo}"
        if who != "pseudo none":
            what = f"{who}: needs unlabelled cases, and dataset.unlabeled is 0"
            self.add(place("ssl"), what, "set dataset.unlabeled to 1 or more, or leave it out for all")

    def settled(self, resolved: Resolved, cell: Mapping[str, Component]) -> Resolved:
        """The component with what it takes from the others of its cell."""
        try:
            with resolved.card.sound("settled"):
                component = resolved.component.settled(cell)
        except InputError as error:
            self.problems.update(dict.fromkeys(error.problems))
            return resolved
        return replace(Resolved.of(component, resolved.card), chosen=resolved.chosen)

    def _conflicts(self, resolved: Resolved, cell: Mapping[str, Component]) -> list[str]:
        try:
            with resolved.card.sound("conflicts"):
                return resolved.component.conflicts(cell)
        except InputError as error:
            self.problems.update(dict.fromkeys(error.problems))
            return []

    def add(self, where: str, what: str, remedy: str = "") -> None:
        """Note a problem, once."""
        self.problems[Problem(where, what, remedy)] = None
