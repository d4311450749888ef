"""Which part of the package may import which: data flows one way, and networks know no stages.

CONTRIBUTING.md describes the rooms and their arrows.
"""

import ast
from pathlib import Path

import pytest

import espnet2_tfckd

PACKAGE = Path(espnet2_tfckd.__file__).parent
SHARED = {"cli", "compatibility", "processes"}  # what every command line needs
#: Rooms, and the rooms that each may import.
ALLOWED = {
    "compatibility": set(),
    "processes": set(),
    "functional": set(),
    "plugins": set(),
    "criterion": set(),
    "cli": {"compatibility", "processes"},
    "data": SHARED,
    "corpora": SHARED | {"data"},
    "separator": {"functional"},
    "distiller": {"functional", "plugins"},
    "models": SHARED | {"data", "separator"},
    "training": SHARED | {"data", "distiller", "models", "separator"},
    "scoring": SHARED | {"data"},
    "experiment": SHARED | {"data", "models", "scoring", "training"},
    "deploy": SHARED | {"data", "models", "scoring", "separator"},
    "stages": SHARED | {"data", "deploy", "experiment", "models", "scoring", "training"},
    "bin": SHARED | {"training"},
    "__init__": {"compatibility", "criterion", "plugins", "separator"},
    "__main__": {"deploy"},
}
#: Libraries that a room does not import, or of which it imports only these parts.
LIBRARIES = {
    "compatibility": {"torch": [], "espnet2": []},
    "cli": {"torch": [], "espnet2": []},
    "data": {"torch": [], "espnet2": ["espnet2.fileio"]},
    "corpora": {"torch": [], "espnet2": []},
    "distiller": {"espnet2": []},
    "scoring": {"espnet2": ["espnet2.bin"]},  # ESPnet's recogniser
}


def room_of(file):
    """The folder of a file in the package, or the file itself right in it."""
    parts = file.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else file.stem


def imports(file):
    """What a file imports anywhere, as (module, names)."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative imports hide the arrow"
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)


def our_imports(file):
    """Modules of the package that a file imports, with the names it takes from each."""
    for module, names in imports(file):
        if module == "espnet2_tfckd":
            # a module, or a name that the package itself defines
            yield from ((f"{module}.{name}", []) for name in names if not name.startswith("__"))
        elif module.startswith("espnet2_tfckd."):
            yield module, names


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_room_has_its_rule():
    assert {room_of(file) for file in FILES} == ALLOWED.keys()


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_the_rooms_it_may(room):
    wrong = [
        f"{file.relative_to(PACKAGE)} imports {module}"
        for file in FILES
        if room_of(file) == room
        for module, _ in our_imports(file)
        if module.split(".")[1] not in ALLOWED[room] | {room}
    ]
    assert not wrong


def test_arrows_between_rooms_make_no_circle():
    """Every room can be put on a floor above all that it imports."""
    floors, left = [], dict(ALLOWED)
    while left:
        floor = {room for room, targets in left.items() if not targets & left.keys()}
        assert floor, f"circle among {sorted(left)}"
        floors.append(floor)
        left = {room: targets for room, targets in left.items() if room not in floor}
    assert len(floors) > 3


def test_no_stage_imports_another():
    wrong = [
        f"{file.name} imports {module}"
        for file in FILES
        if room_of(file) == "stages"
        for module, _ in our_imports(file)
        if module.startswith("espnet2_tfckd.stages")
    ]
    assert not wrong


@pytest.mark.parametrize("room", LIBRARIES)
def test_a_room_leaves_libraries_alone_that_are_not_its_business(room):
    wrong = [
        f"{file.relative_to(PACKAGE)} imports {module}"
        for file in FILES
        if room_of(file) == room
        for module, _ in imports(file)
        for library, parts in LIBRARIES[room].items()
        if module.partition(".")[0] == library and not module.startswith(tuple(parts) or "\0")
    ]
    assert not wrong


def test_a_name_with_an_underscore_is_used_in_its_own_file_only():
    wrong = []
    for file in FILES:
        taken = [name for _, names in our_imports(file) for name in names]
        wrong += [f"{file.name} imports {n}" for n in taken if n.startswith("_") and n[1] != "_"]
        tree = ast.parse(file.read_text(encoding="utf-8"))
        wrong += [
            f"{file.name} uses {node.value.id}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if node.value.id in taken and node.attr.startswith("_") and node.attr[1] != "_"
        ]
    assert not wrong
