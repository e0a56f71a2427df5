"""Imports run downwards only: between folders, and between the files of one."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "streaming"

# From the cellar to the roof: a module imports from the floors below its own folder's, and from its
# neighbours in the folder without a circle.
FLOORS = ["errors", "names", "threads", "own", "bell", "identity", "message", "wire", "logs"]
FLOORS += ["settings", "hub", "clients", "web", "testing", "__init__"]
NO_FLASK = FLOORS[: FLOORS.index("web")]

FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


def floor(module: str) -> str:
    return module.split(".")[0]


def imports(node: ast.AST, file: Path) -> Iterator[str]:
    """Absolute names of all imported modules, wherever the import stands, also for types only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            here = ("streaming", *file.relative_to(PACKAGE).parts)[: -child.level or None]
            base = ".".join([*(here if child.level else ()), *filter(None, [child.module])])
            for alias in child.names:  # the name may be a module itself
                path = PACKAGE.parent / base.replace(".", "/") / alias.name
                is_module = path.with_suffix(".py").exists() or (path / "__init__.py").exists()
                yield f"{base}.{alias.name}" if is_module else base
        yield from imports(child, file)


def imported(file: Path) -> set[str]:
    return set(imports(ast.parse(file.read_text("utf-8")), file))


def outside(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(file)} - {"streaming"}


def inside(file: Path) -> set[str]:
    own = {name for name in imported(file) if name.split(".")[0] == "streaming"}
    return {name.removeprefix("streaming").removeprefix(".") or "__init__" for name in own}


def test_every_folder_is_a_floor_and_every_floor_is_there() -> None:
    assert {floor(module_name(file)) for file in FILES} == set(FLOORS)


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_a_module_imports_from_its_own_floor_and_those_below(file: Path) -> None:
    name = module_name(file)
    for other in inside(file):
        assert FLOORS.index(floor(other)) <= FLOORS.index(floor(name)), (
            f"{name} imports {other}, which is not below it"
        )


def test_no_imports_go_in_a_circle() -> None:
    try:
        TopologicalSorter({module_name(file): inside(file) for file in FILES}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_flask_begins_in_web_and_gevent_is_imported_nowhere(file: Path) -> None:
    banned = {"gevent", "greenlet"}
    if floor(module_name(file)) in NO_FLASK:
        banned |= {"flask", "werkzeug", "flask_sock", "gunicorn"}
    if module_name(file) != "clients.closed":  # our exception is theirs too
        banned.add("simple_websocket")
    assert not outside(file) & banned


@pytest.mark.parametrize("file", sorted((PACKAGE / "wire").glob("*.py")), ids=module_name)
def test_wire_code_is_pure(file: Path) -> None:
    standard = {"__future__", "base64", "codecs", "collections", "dataclasses", "enum", "hashlib"}
    assert outside(file) <= standard | {
        "functools",
        "ipaddress",
        "json",
        "re",
        "typing",
        "zlib",
    }  # no clock, no I/O
    assert all(name == "errors" or name.startswith("wire.") for name in inside(file))


def test_the_reader_of_imports_sees_all_kinds_of_them() -> None:
    source = """
import os.path, gevent
from . import errors
from .wire import sse
from .hub.hub import Hub
if TYPE_CHECKING:
    from ..x import y
def f():
    from flask import Flask
"""
    found = set(imports(ast.parse(source), PACKAGE / "module.py"))
    assert found >= {"os.path", "gevent", "streaming.errors", "flask", "x"}
    assert found >= {"streaming.wire.sse", "streaming.hub.hub"}
    assert module_name(PACKAGE / "logs" / "__init__.py") == "logs"


def rooms_of_the_page() -> dict[str, set[str]]:
    """By folder, in the order of the page: what the table of rooms names."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8")
    table = page.partition("| room | what it owns |")[2].partition("\n\n")[0]
    rooms: dict[str, set[str]] = {}
    section = ""
    for line in table.splitlines()[2:]:
        named, owned = (set(re.findall(r"`([\w./]+)`", cell)) for cell in line.split("|")[1:3])
        folder = next((name for name in named if name.endswith("/") and name != "static/"), None)
        if folder in ("hub/", "clients/", "web/"):  # the rows below are its rooms
            section = folder
        elif folder is not None:
            rooms[folder] = owned
        else:
            rooms.setdefault(section, set()).update(named)
    return rooms


def test_the_page_names_every_room_in_its_folder_and_no_other() -> None:
    there: dict[str, set[str]] = {}
    for file in FILES:
        if file.name != "__init__.py":
            folder = "".join(f"{part}/" for part in file.relative_to(PACKAGE).parts[:-1])
            there.setdefault(folder, set()).add(file.stem)
    named = rooms_of_the_page()
    assert there.keys() <= named.keys()
    for folder, modules in there.items():
        assert modules <= named[folder], f"not in the table: {modules - named[folder]} of {folder}"
    for folder in ("", "hub/", "clients/", "web/"):
        assert named[folder] - {"static/"} <= there[folder], "the table names what is not there"


def test_the_page_has_the_floors_in_their_order() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8")
    table = page.partition("| room | what it owns |")[2].partition("\n\n")[0]
    places = [
        table.index(f"`{name}`") if f"`{name}`" in table else table.index(f"`{name}/`")
        for name in FLOORS[:-1]
    ]
    assert places[1:] == sorted(places[1:])
