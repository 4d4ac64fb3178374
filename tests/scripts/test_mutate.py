"""Faults that are drawn are changes of one expression each, the same for the same seed."""

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
