"""Imports run downwards only. The table below is the house as built; a new room goes into it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "streaming"

# From the cellar to the roof: a module may import from the floors below its own and from no other.
FLOORS = [
    "errors bell",
    "message logs.follower wire wire.deflate wire.handshake wire.header wire.ndjson wire.sse",
    "wire.fragments logs.contract logs.redis.backoff logs.redis.scripts logs.redis.errors",
    "wire.frames logs.memory logs.sqlite.schema logs.sqlite.followers logs.sqlite.wakeups",
    "logs.redis.listening logs.redis.url",
    "logs.sqlite.connection logs.sqlite.forgetting logs.sqlite.rooms logs.redis.commands",
    "logs.sqlite.history logs.sqlite.turns logs.redis.announcements logs.redis.rooms",
    "logs.sqlite.process logs.redis.log",
    "logs.sqlite.log logs.redis",
    "logs.sqlite",
    "logs",
    "subscription pump registry outlet poller",
    "hub settings formats",
    "presence",
    # ---- up to here the lower half: no Flask
    "origin requests state client line",
    "websocket tail worker",
    "session responses",
    "chat protocol sock",
    "routes",
    "extension",
    "__init__",
]
LOWER_HALF = {name for floor in FLOORS[: FLOORS.index("presence") + 1] for name in floor.split()}
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names.split()}

# The one exemption: these two know each other's types, under TYPE_CHECKING and at no other place.
TYPE_ONLY = {("subscription", "pump"), ("pump", "subscription")}

FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(node: ast.AST, file: Path, typed: bool = False) -> Iterator[tuple[str, bool]]:
    """Absolute names of all imported modules, wherever the import stands; whether for types only"""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, typed) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            here = ("streaming", *file.relative_to(PACKAGE).parts)[: -child.level or None]
            base = ".".join([*(here if child.level else ()), *filter(None, [child.module])])
            for alias in child.names:  # the name may be a module itself
                path = PACKAGE.parent / base.replace(".", "/") / alias.name
                is_module = path.with_suffix(".py").exists() or (path / "__init__.py").exists()
                yield f"{base}.{alias.name}" if is_module else base, typed
        yield from imports(child, file, typed or is_type_checking(child))


def imported(file: Path) -> set[tuple[str, bool]]:
    return set(imports(ast.parse(file.read_text("utf-8")), file))


def outside(file: Path) -> set[str]:
    return {n.split(".")[0] for n, _ in imported(file)} - {"streaming"}


def inside(file: Path) -> set[tuple[str, bool]]:
    own = {(n, typed) for n, typed in imported(file) if n.split(".")[0] == "streaming"}
    return {(n.removeprefix("streaming").removeprefix(".") or "__init__", t) for n, t in own}


def test_every_module_is_in_the_table_and_the_table_in_the_package() -> None:
    assert sorted(FLOOR) == sorted(map(module_name, FILES))
    assert len(FLOOR) == sum(len(floor.split()) for floor in FLOORS)


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_a_module_imports_only_from_floors_below_its_own(file: Path) -> None:
    name = module_name(file)
    for other, typed in inside(file):
        if typed and (name, other) in TYPE_ONLY:
            continue
        assert FLOOR[other] < FLOOR[name], f"{name} imports {other}, which is not below it"


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_flask_begins_above_the_hub_and_gevent_is_imported_nowhere(file: Path) -> None:
    banned = {"gevent", "greenlet"}
    if module_name(file) in LOWER_HALF:
        banned |= {"flask", "werkzeug", "flask_sock", "simple_websocket", "gunicorn"}
    assert not outside(file) & banned


@pytest.mark.parametrize("file", sorted((PACKAGE / "wire").glob("*.py")), ids=module_name)
def test_wire_code_is_pure(file: Path) -> None:
    standard = {"__future__", "base64", "codecs", "collections", "dataclasses", "enum", "hashlib"}
    assert outside(file) <= standard | {"json", "re", "typing", "zlib"}  # no clock, no I/O
    assert all(name == "errors" or name.startswith("wire.") for name, _ in inside(file))


def test_the_reader_of_imports_sees_all_kinds_of_them() -> None:
    source = (
        "import os.path, gevent\nfrom . import formats\nfrom .wire import sse\nfrom .hub import Hub"
        "\nif TYPE_CHECKING:\n    from ..x import y\ndef f():\n    from flask import Flask"
    )
    found = set(imports(ast.parse(source), PACKAGE / "module.py"))
    assert {n for n, _ in found} >= {"os.path", "gevent", "streaming.formats", "flask"}
    assert {n for n, _ in found} >= {"streaming.wire.sse", "streaming.hub"}
    assert ("x", True) in found
    assert module_name(PACKAGE / "logs" / "__init__.py") == "logs"
