"""The choices of one arm at every point of the axes, resolved to components and switches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, cast

from sfrbench.components.base import KINDS, Component, Dataset, Ssl
from sfrbench.plan.graph import Configuration
from sfrbench.plan.resolve import Resolved, Resolver
from sfrbench.spec.model import Arm, Layer
from sfrbench.stages.finder import recipes
from sfrbench.stages.interact import recipe as interact
from sfrbench.stages.recipe import Chosen, Pseudo, Score
from sfrbench.stages.retrain import recipe as retrain


class ArmResolver:
    """Resolves the points of one arm; a kind is resolved anew only where an axis touches it."""

    def __init__(self, resolver: Resolver, arm: Arm, choices: Sequence[Sequence[Layer]]) -> None:
        self.resolver = resolver
        self.arm = arm
        self.choices = choices
        self._touches = [
            {path.partition(".")[0] for layer in layers for path in layer.choices} for layers in choices
        ]
        self._local = (*resolver.spec.points, *resolver.spec.overlay_points)
        layers = resolver.layers(arm.layer, [layer for axis in choices for layer in axis], {})
        self._chosen = {kind for kind in KINDS if any(kind in layer.choices for layer in layers)}
        self._memo: dict[tuple[Any, ...], Any] = {}
        self.where = arm.layer.places.get(next(iter(arm.layer.places), ""), str(resolver.spec.document.path))

    def _layers(self, head: str, point: Sequence[int]) -> tuple[tuple[int, ...], list[Layer]]:
        """What decides the choices of ``head`` at a point, and these choices."""
        here = self._here(point)
        used = tuple(
            row if head in touched else -1 for row, touched in zip(point, self._touches, strict=True)
        )
        axes = [layers[row] for layers, row in zip(self.choices, used, strict=True) if row >= 0]
        local = tuple(int(entry.holds(here)) for entry in self._local)
        return (*used, *local), self.resolver.layers(self.arm.layer, axes, here)

    def _here(self, point: Sequence[int]) -> dict[str, Any]:
        """The point by path, where anything depends on it."""
        here: dict[str, Any] = {"arm": self.arm.name} if self._local else {}
        for layers, row in zip(self.choices, point, strict=True):
            here |= layers[row].choices if self._local else {}
        return here

    def _chosen_at(self, point: Sequence[int]) -> set[str]:
        """The kinds that are chosen by name."""
        here = self._here(point)
        local = (entry.layer.choices for entry in self._local if entry.holds(here))
        return self._chosen.union(kind for choices in local for kind in choices if kind in KINDS)

    def kind(self, kind: str, point: Sequence[int]) -> Resolved | None:
        used, layers = self._layers(kind, point)
        if (kind, used) not in self._memo:
            self._memo[kind, used] = self.resolver.kind(kind, layers, self.where)
        return cast("Resolved | None", self._memo[kind, used])

    def _place(self, kind: str, point: Sequence[int]) -> str:
        """Where to look for a component that does not go with the others: where it was chosen, if not in the
        base; else what the arm chooses; else the base, which other arms share."""
        chose = [one for one in self._layers(kind, point)[1] if kind in one.choices]
        base, layer = self.resolver.spec.base, self.arm.layer
        if chose and chose[-1] is not base:
            return chose[-1].where(kind)
        heads = {path: path.partition(".")[0] for path in layer.choices}
        own = [path for path, head in heads.items() if head in KINDS]
        if own:
            return layer.where(next((path for path in own if heads[path] == kind), own[0]))
        return base.where(kind) if chose else self.where

    def switch(self, name: str, point: Sequence[int], default: str) -> tuple[str, str]:
        used, layers = self._layers(name, point)
        if (name, used) not in self._memo:
            self._memo[name, used] = self.resolver.switch(name, layers, default)
        return cast("tuple[str, str]", self._memo[name, used])

    def cell(self, point: Sequence[int]) -> Configuration | None:
        stages = self.arm.stages
        pseudo: Pseudo = "none"
        chosen_pseudo = ""
        if retrain.STAGE in stages:
            switched, chosen_pseudo = self.switch("pseudo", point, "none")
            pseudo = cast(Pseudo, switched)
        score = cast(Score, self.switch("score", point, "test")[0])
        asked = (kind for recipe in recipes().values() for kind in recipe.kinds(stages, pseudo))
        kinds = list(dict.fromkeys(["dataset", "protocol", *asked]))
        chosen = self._chosen_at(point)
        if pseudo != "none" and "selector" in chosen:
            kinds.append("selector")
        found = {kind: self.kind(kind, point) for kind in kinds}
        for kind in chosen - found.keys():
            self.kind(kind, point)  # not needed here, and yet a wrong name or field is a mistake
        self._prompter_is_used(stages)
        if None in found.values():
            return None
        components = self._settled(cast("dict[str, Resolved]", found))
        if pseudo == "none" and "ssl" in components:
            components["ssl"] = self._without_pseudo(components["ssl"])
        memo = ("conflicts", pseudo, score, *(resolved.digest for resolved in components.values()))
        dataset = cast(Dataset, components["dataset"].component)
        if memo not in self._memo:
            parts = {kind: resolved.component for kind, resolved in components.items()}
            self._memo[memo] = self._sound(Chosen(parts, stages, pseudo, score, fingerprint=""))
            self.resolver.conflicts(components, lambda kind: self._place(kind, point), pseudo)
            if score == "val" and dataset.val == 0:
                self.resolver.add(
                    self.where, "score: val needs validation cases", "set dataset.val to 1 or more"
                )
        if not self._memo[memo]:
            return None
        return Configuration(components, stages, pseudo, score, chosen_pseudo, self.arm.predictions)

    def _prompter_is_used(self, stages: Collection[str]) -> None:
        """An arm that chooses a prompter, and lets it say nothing, is not what it is called."""
        layer = self.arm.layer
        if "prompter" in layer.choices and interact.STAGE not in stages:
            what = (
                f"arm '{self.arm.name}' has a prompter and no stage {interact.STAGE}: nobody would be asked"
            )
            self.resolver.add(layer.where("prompter"), what, "add stages: [interact, evaluate] to the arm")

    def _sound(self, chosen: Chosen) -> bool:
        """Whether the stages work with these choices."""
        faults = [fault for recipe in recipes().values() for fault in recipe.faults(chosen)]
        for what, remedy in faults:
            self.resolver.add(self.where, f"arm '{self.arm.name}': {what}", remedy)
        return not faults

    def _settled(self, found: dict[str, Resolved]) -> dict[str, Resolved]:
        """The components, those that take fields from others with them filled in."""
        parts = {kind: resolved.component for kind, resolved in found.items()}
        takes = [kind for kind, part in parts.items() if type(part).settled is not Component.settled]
        for kind in takes:
            memo = ("settled", kind, *(id(resolved) for resolved in found.values()))
            if memo not in self._memo:
                self._memo[memo] = self.resolver.settled(found[kind], parts), found  # found: ids stay theirs
            found = {**found, kind: self._memo[memo][0]}
        return found

    def _without_pseudo(self, ssl: Resolved) -> Resolved:
        """The method with the fields of SFR at their defaults: they change nothing here."""
        memo = ("plain", ssl.digest)
        if memo not in self._memo:
            component = cast(Ssl, ssl.component)
            defaults = {name: type(component).model_fields[name].default for name in component.pseudo_fields}
            plain = Resolved.of(component.model_copy(update=defaults), ssl.card)
            self._memo[memo] = replace(plain, chosen=ssl.chosen)
        return cast(Resolved, self._memo[memo])
