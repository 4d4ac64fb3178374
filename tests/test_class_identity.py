"""A class is called by what it declares, a library's class by its name, any other by its source."""

import inspect
import linecache
import logging
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest
from torch import nn

from gauntlet.attacks import PGD
from gauntlet.class_identity import class_identity, declared_identity
from gauntlet.errors import UserError
from gauntlet.identity import describe, stream_of
from gauntlet.threats import L1, Linf
from tests.modules import module_of

BALL = '''
    """A threat model of a user."""
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Ball:
        """Close images."""

        bound: float
        steps: int = 3

        def around(self, images, classifier=None):
            """The ball."""
            return [images, self.bound * 2]  # twice
'''


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """Modules of a test go with it; a name that is used again is another file."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


def test_a_declared_identity_is_the_whole_of_it():
    assert class_identity(PGD) == "pgd/1"
    assert class_identity(L1) == "l1/1"


@dataclass(frozen=True, kw_only=True)
class MyPGD(PGD):
    """What it inherits is not its own."""


def test_a_subclass_does_not_inherit_an_identity():
    assert declared_identity(MyPGD) is None
    assert class_identity(MyPGD).startswith("MyPGD@")
    assert describe(MyPGD(threat_model=Linf(0.1)))["class"] != "pgd/1"


def test_moving_and_renaming_a_class_and_a_new_field_with_a_default_change_nothing(tmp_path):
    """The file of `Linf` under another name, the class renamed, with one more field."""
    source = inspect.getsource(sys.modules[Linf.__module__]).replace("class Linf:", "class Cube:")
    source = source.replace("    bound: float\n", "    bound: float\n    corner: int = 0\n", 1)
    moved = module_of(tmp_path, "own_elsewhere", source).Cube
    assert describe(moved(0.25)) == describe(Linf(0.25)) == {"class": "linf/1", "bound": 0.25}
    assert describe(moved(0.25, corner=2)) == {"class": "linf/1", "bound": 0.25, "corner": 2}
    assert stream_of(PGD(threat_model=moved(0.25))) == stream_of(PGD(threat_model=Linf(0.25)))


@pytest.mark.parametrize(
    "edited",
    [
        BALL.replace("# twice", "# two times the bound"),
        BALL.replace('"""The ball."""', '"""All images of the ball."""'),
        BALL.replace('    """A threat model of a user."""\n', ""),
        BALL.replace("self.bound * 2", "(self.bound\n                * 2)"),
        "\n\n" + BALL + "\n\n",
    ],
    ids=["comment", "docstring", "no docstring", "line break", "blank lines"],
)
def test_comments_docstrings_and_layout_are_no_part_of_a_source(tmp_path, edited):
    before = class_identity(module_of(tmp_path, "own_before", BALL).Ball)
    assert before.startswith("Ball@")
    assert class_identity(module_of(tmp_path, "own_after", edited).Ball) == before


@pytest.mark.parametrize(
    "edited",
    [
        BALL.replace("* 2", "* 3"),
        BALL.replace("* 2", "* 2.0"),
        BALL.replace("steps: int = 3", "steps: int = 4"),
        BALL + "\n    FACTOR = 2\n",
    ],
    ids=["number", "float", "default", "constant"],
)
def test_every_other_edit_of_the_file_is(tmp_path, edited):
    before = class_identity(module_of(tmp_path, "own_before", BALL).Ball)
    assert class_identity(module_of(tmp_path, "own_after", edited).Ball) != before


def test_of_a_class_that_declares_nothing_every_field_counts(tmp_path):
    ball = module_of(tmp_path, "own_ball", BALL).Ball
    assert describe(ball(0.5)) == {"class": class_identity(ball), "bound": 0.5, "steps": 3}


def test_base_classes_in_other_files_count_by_their_source_and_shipped_ones_by_their_version(tmp_path, monkeypatch):
    derived = "from {} import Ball\nclass Mine(Ball): pass"
    module_of(tmp_path, "own_base", BALL)
    module_of(tmp_path, "own_other", BALL.replace("* 2", "* 3"))
    same = [class_identity(module_of(tmp_path, f"own_{i}", derived.format("own_base")).Mine) for i in range(2)]
    other = class_identity(module_of(tmp_path, "own_2", derived.format("own_other") + "\n").Mine)
    assert same[0] == same[1]
    assert other != same[0]
    before = class_identity(MyPGD)
    monkeypatch.setattr(PGD, "identity", "pgd/2")
    assert class_identity(MyPGD) != before


def test_classes_of_libraries_are_known_by_their_names():
    assert class_identity(nn.Conv2d) == "torch.Conv2d"
    assert class_identity(dict) == "builtins.dict"
    assert class_identity(logging.Logger) == "logging.Logger"


def test_a_file_of_ones_own_may_be_called_as_one_of_pythons(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "this", None)
    assert class_identity(module_of(tmp_path, "this", BALL).Ball).startswith("Ball@")


def test_a_class_whose_source_cannot_be_read_has_to_declare_itself():
    space = {"__name__": "own_notebook", "dataclass": dataclass}
    exec("@dataclass\nclass TwoSteps:\n    bound: float = 1.0", space)
    with pytest.raises(
        UserError, match=r"^the source of TwoSteps cannot be read.*declare identity: ClassVar\[str\] = "
    ) as raised:
        class_identity(space["TwoSteps"])
    assert "\n" not in str(raised.value)
    advice = str(raised.value).split("declare ")[1].removesuffix(" in the class")
    space["ClassVar"] = ClassVar
    exec(f"@dataclass\nclass TwoSteps:\n    {advice}\n    bound: float = 1.0", space)
    assert describe(space["TwoSteps"]()) == {"class": "two_steps/1"}


def test_the_cell_of_a_notebook_is_a_source():
    """IPython keeps the lines of a cell where Python looks for those of a file."""
    result = []
    for number, factor in enumerate((2, 2, 3)):
        source, file = f"class Net:\n    def forward(self):\n        return {factor}\n", f"<cell {number}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        space = {"__name__": "own_notebook"}
        exec(compile(source, file, "exec"), space)
        result.append(class_identity(space["Net"]))
    assert result[0] == result[1] != result[2]


@pytest.mark.parametrize("declared", ["pgd", "pgd/0", "pgd/", "/1", "my pgd/1", "pgd@1/1", "pgd/1.2"])
def test_a_declaration_is_a_name_and_a_version(declared):
    cls = type("MyPGD", (), {"identity": declared})
    with pytest.raises(UserError, match=r'expected a name and a version, such as "my_pgd/1"'):
        class_identity(cls)


def test_a_method_called_identity_declares_nothing():
    """A region has one."""
    assert declared_identity(type("Region", (), {"identity": lambda self: 0})) is None
