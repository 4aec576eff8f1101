"""A fingerprint of the code that something rests on: definitions by name, wherever their files lie.

A definition is a function, a class or a value at the top of a module. What it rests on is found by the names
that it uses, through imports at the top and inside functions, and so on from there. Imports, docstrings,
comments, layout, file names, the descriptions of fields and what components say of their cost are no part of
a fingerprint, so that moving a definition to another module leaves it as it is.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

#: Methods, fields and arguments that say what something costs: they decide no result.
COSTS = {"cost", "extent", "canvas_count", "confident_share"}
#: Module and name of a definition.
Definition = tuple[str, str]


@dataclass(frozen=True)
class Module:
    """A module: the text of each definition, and what imports give, as name -> (module, name there)."""

    definitions: Mapping[str, str]
    imports: Mapping[str, Definition]


@dataclass(frozen=True)
class Code:
    """The modules of a package below ``root``. ``instead`` gives the text of some instead of their files."""

    root: Path
    package: str
    instead: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _modules(self) -> dict[str, Module | None]:
        return {}

    @cached_property
    def _used(self) -> dict[Definition, set[Definition]]:
        return {}

    @cached_property
    def _prints(self) -> dict[Definition, str]:
        return {}

    def module(self, name: str) -> Module | None:
        """A module of the package; none where there is none of that name."""
        if name not in self._modules:
            text = self._text(name)
            self._modules[name] = None if text is None else _module(text)
        return self._modules[name]

    def _text(self, name: str) -> str | None:
        if name in self.instead or name.partition(".")[0] != self.package:
            return self.instead.get(name)
        path = self.root.joinpath(*name.split("."))
        files = (path.with_suffix(".py"), path / "__init__.py")
        return next((file.read_text(encoding="utf-8") for file in files if file.is_file()), None)

    def reached(
        self, roots: Collection[Definition], but: Collection[Definition], outside: Collection[str] = ()
    ) -> set[Definition]:
        """The roots and all they rest on, less ``but``, the modules and packages ``outside``, and what only
        those use."""
        found: set[Definition] = set()
        waiting = list(roots)
        while waiting:
            at = waiting.pop()
            left_out = any(f"{at[0]}.".startswith(f"{module}.") for module in outside)
            if at not in found and at not in but and not left_out:
                found.add(at)
                waiting += self._uses(at)
        return found

    def print_of(self, definitions: Collection[Definition]) -> str:
        """One fingerprint of several definitions, whatever their order and modules."""
        prints = sorted(self._print(each) for each in definitions)
        return hashlib.sha256("\n".join(prints).encode()).hexdigest()[:16]

    def _print(self, at: Definition) -> str:
        if at not in self._prints:
            names = Names(self, at)
            self._prints[at] = _printed(names.text, frozenset(names.meanings.items()))
        return self._prints[at]

    def _uses(self, at: Definition) -> set[Definition]:
        """The definitions of the package that one names."""
        if at not in self._used:
            self._used[at] = set(Names(self, at).meanings.values())
        return self._used[at]

    def home(self, module: str, name: str) -> Definition | None:
        """Where a name of a module is defined, through imports; none outside the package."""
        known = self.module(module)
        if known is None:
            return None
        if name in known.definitions:
            return module, name
        return self.home(*known.imports[name]) if name in known.imports else None


#: A name, or the name of a module and that of an attribute of it, as they are written.
Written = tuple[str, str]


class Names:
    """What names mean inside one definition."""

    def __init__(self, code: Code, at: Definition) -> None:
        module = code.module(at[0])
        assert module is not None
        self.code = code
        self.module = at[0]
        self.text = module.definitions[at[1]]
        written, inside = _written(self.text)
        self.imports = {**module.imports, **inside}
        found = {each: self._target(*each) for each in written}
        self.meanings = {each: target for each, target in found.items() if target is not None}

    def _target(self, name: str, attribute: str) -> Definition | None:
        """The definition of the package that a name, or an attribute of an imported module, stands for."""
        if not attribute:
            return self.code.home(*self.imports.get(name, (self.module, name)))
        module, inner = self.imports.get(name, ("", ""))
        return self.code.home(f"{module}.{inner}" if inner else module, attribute)


def _tree(text: str) -> ast.Module:
    """A definition as a new tree, without what says what something costs."""
    tree = ast.parse(text)
    for part in ast.walk(tree):
        if isinstance(part, ast.ClassDef):
            part.body = [one for one in part.body if not COSTS & _names(one)] or [ast.Pass()]
        elif isinstance(part, ast.Call):
            part.keywords = [one for one in part.keywords if one.arg not in COSTS]
    return tree


def _as_written(node: ast.AST) -> Written | None:
    if isinstance(node, ast.Name):
        return node.id, ""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id, node.attr
    return None


@cache
def _written(text: str) -> tuple[frozenset[Written], dict[str, Definition]]:
    """The names and attributes in a definition, and what its own imports give."""
    found = map(_as_written, ast.walk(_tree(text)))
    return frozenset(each for each in found if each is not None), _imports([ast.parse(text)])


@cache
def _printed(text: str, meanings: frozenset[tuple[Written, Definition]]) -> str:
    """The fingerprint of one definition in which names stand for these definitions of the package."""
    plain = ast.unparse(_Plain(dict(meanings)).visit(_tree(text)))
    return hashlib.sha256(plain.encode()).hexdigest()


class _Plain(ast.NodeTransformer):
    """A definition without what is no part of its fingerprint."""

    def __init__(self, meanings: Mapping[Written, Definition]) -> None:
        self.meanings = meanings

    def _target(self, node: ast.AST) -> Definition | None:
        written = _as_written(node)
        return None if written is None else self.meanings.get(written)

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def visit_Name(self, node: ast.Name) -> ast.AST:
        target = self._target(node)
        return node if target is None else ast.Name(target[1], node.ctx)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        target = self._target(node)
        return self.generic_visit(node) if target is None else ast.Name(target[1], node.ctx)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id == "Field":
            node.keywords = [each for each in node.keywords if each.arg != "description"]
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body.pop(0)
        super().generic_visit(node)
        if isinstance(body, list) and not body:
            body.append(ast.Pass())
        return node


@cache
def _module(text: str) -> Module:
    tree, lines = ast.parse(text), text.splitlines()
    definitions: dict[str, str] = {}
    for part in tree.body:
        first = min([part.lineno, *(each.lineno for each in getattr(part, "decorator_list", ()))])
        own = "\n".join(lines[first - 1 : part.end_lineno])
        for name in _defined(part):
            definitions[name] = f"{definitions.get(name, '')}{own}\n"
    tops = [part for part in tree.body if not isinstance(part, (ast.FunctionDef, ast.ClassDef))]
    return Module(definitions, _imports(tops))


def _names(part: ast.stmt) -> set[str]:
    """What a statement in a class defines."""
    return {str(part.name)} if isinstance(part, ast.FunctionDef) else set(_defined(part))


def _defined(part: ast.stmt) -> list[str]:
    if isinstance(part, (ast.FunctionDef, ast.ClassDef)):
        return [part.name]
    targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", None)]
    return [
        node.id for target in targets if target for node in ast.walk(target) if isinstance(node, ast.Name)
    ]


def _imports(parts: Collection[ast.AST]) -> dict[str, Definition]:
    """Name -> (module, name there), for every import in these; the name there is empty for a whole module."""
    found: dict[str, Definition] = {}
    for node in (node for part in parts for node in ast.walk(part)):
        if isinstance(node, ast.Import):
            found |= {each.asname or each.name: (each.name, "") for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {each.asname or each.name: (node.module, each.name) for each in node.names}
    return found
