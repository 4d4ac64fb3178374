"""No public name changes unnoticed."""

import difflib

import pytest

pin_api = pytest.importorskip("scripts.pin_api", reason="no scripts in this installation")


def test_the_public_names_are_those_of_the_file():
    before, now = pin_api.GOLDEN.read_text().splitlines(), pin_api.written().splitlines()
    changed = [line for line in difflib.unified_diff(before, now, lineterm="", n=0) if line[:1] in "+-"][2:]
    assert not changed, "\n".join([*changed, "if that was meant, run python -m scripts.pin_api"])


def test_a_renamed_argument_and_a_removed_method_are_seen():
    class Before:
        def __init__(self, bound, steps=3): ...

        def run(self): ...

    class After:
        def __init__(self, radius, steps=4): ...

    assert pin_api.described("x.A", Before) == ["class x.A(bound, steps=...)", "    run(self)"]
    assert pin_api.described("x.A", After) == ["class x.A(radius, steps=...)"]
