"""Faults are changes of one expression each, the same for the same seed; tests kill those that they notice."""

import ast

import pytest

mutate = pytest.importorskip("scripts.mutate", reason="no scripts in this installation")
SOURCE = '''
def step(region, params: tuple[int, int], bound, rate=2):
    """A docstring with 3 and x - y."""
    if bound < 0:
        raise ValueError(f"{bound - 1}")
    moved = region.project(params + rate * bound)
    return -moved.clamp(0, 1)
'''


@pytest.fixture
def sources(tmp_path):
    file = tmp_path / "gauntlet" / "attacks" / "toy.py"
    file.parent.mkdir(parents=True)
    file.write_text(SOURCE)
    return tmp_path


def test_every_operator_finds_its_expressions_and_messages_are_left_alone(sources):
    faults = list(mutate.faults_of(sources / "gauntlet" / "attacks" / "toy.py", sources))
    made = {(fault.operator, SOURCE.encode()[fault.start : fault.end].decode(), fault.text) for fault in faults}
    assert made == {
        ("off_by_one", "2", "3"),
        ("comparison", "bound < 0", "(bound) <= (0)"),
        ("bound", "bound", "(bound * 1.1)"),
        ("off_by_one", "0", "1"),
        ("dropped_projection", "region.project(params + rate * bound)", "(params + rate * bound)"),
        ("sign", "params + rate * bound", "(params) - (rate * bound)"),
        ("sign", "-moved.clamp(0, 1)", "(moved.clamp(0, 1))"),
        ("dropped_projection", "moved.clamp(0, 1)", "(moved)"),
        ("swapped_arguments", "moved.clamp(0, 1)", "moved.clamp(1, 0)"),
        ("off_by_one", "1", "2"),
    }


def test_every_fault_of_the_sources_is_valid_python_and_the_seed_decides(sources):
    everything = mutate.ROOT / "src"
    faults = mutate.drawn(60, 0, mutate.PACKAGES, everything)
    assert faults == mutate.drawn(60, 0, mutate.PACKAGES, everything)
    assert faults != mutate.drawn(60, 1, mutate.PACKAGES, everything)
    assert {fault.operator for fault in faults} == {operator.__name__ for operator in mutate.OPERATORS}
    for fault in faults:
        content = (everything / fault.file).read_bytes()
        ast.parse(content[: fault.start] + fault.text.encode() + content[fault.end :])


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A package of one module whose test notices a wrong sum, and nothing else."""
    sources = tmp_path / "src"
    package = sources / "gauntlet" / "attacks"
    package.mkdir(parents=True)
    (sources / "gauntlet" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "toy.py").write_text("def total(a, b, steps=3):\n    return a + b if steps < 100 else 0\n")
    tests = tmp_path / "tests" / "attacks"
    tests.mkdir(parents=True)
    test = "from gauntlet.attacks.toy import total\n\n\ndef test_total():\n    assert total(1, 2) == 3\n"
    (tests / "test_toy.py").write_text(test)
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    return sources


def test_a_fault_that_the_tests_notice_is_killed_and_another_survives(toy):
    faults = {fault.operator: fault for fault in mutate.drawn(10, 0, ["attacks"], toy)}
    assert not mutate.survives(faults["sign"], toy, 1)
    assert mutate.survives(faults["comparison"], toy, 1)
    assert (toy / "gauntlet" / "attacks" / "toy.py").read_text().count("a + b") == 1  # the sources are untouched


def test_nothing_is_drawn_where_tests_fail_without_a_fault(toy):
    mutate.check_tests(["attacks"], toy, 1)
    (toy.parent / "tests" / "attacks" / "test_toy.py").write_text("def test_total():\n    assert False\n")
    with pytest.raises(SystemExit, match="the tests of attacks fail without a fault"):
        mutate.check_tests(["attacks"], toy, 1)
