"""Draw faults by seed, put each into a copy of the sources, and report those that the tests do not notice.

    python -m scripts.mutate --count 100 --seed 0
    python -m scripts.mutate --list --count 100          # what would be drawn

A fault is one change of one expression (`OPERATORS`). It is run against the test file of its module, then against all
tests of its package; it is killed by the first that fails or does not end. Survivors are printed as diffs and written
to `--out` with everything else, so that a stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGES = ("attacks", "threats", "evaluation")
_PROJECTIONS = {"project", "clip", "clamp"}
_MIRRORED = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
_SECONDS = 900  # a test run that lasts longer has noticed the fault


class Fault(NamedTuple):
    """One change of a source file."""

    operator: str
    file: str
    """Relative to the sources."""
    line: int
    start: int
    """In bytes of the file."""
    end: int
    text: str
    """The replacement."""


Change = tuple[ast.expr, str]
"""The expression that is replaced, and by what."""


def sign(node: ast.expr, source: Callable[[ast.expr], str]) -> Iterator[Change]:
    """+ becomes −, − becomes +, and a leading − is dropped."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        other = "-" if isinstance(node.op, ast.Add) else "+"
        yield node, f"({source(node.left)}) {other} ({source(node.right)})"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node, f"({source(node.operand)})"


def bound(node: ast.expr, source: Callable[[ast.expr], str]) -> Iterator[Change]:
    """A bound is a tenth larger."""
    if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
        name = node.attr if isinstance(node, ast.Attribute) else node.id
        if name == "bound":
            yield node, f"({source(node)} * 1.1)"


def off_by_one(node: ast.expr, source: Callable[[ast.expr], str]) -> Iterator[Change]:
    """A whole number is one larger."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield node, str(node.value + 1)


def comparison(node: ast.expr, source: Callable[[ast.expr], str]) -> Iterator[Change]:
    """Strict becomes not strict and the other way round; equal becomes unequal."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _MIRRORED:
        yield node, f"({source(node.left)}) {_MIRRORED[type(node.ops[0])]} ({source(node.comparators[0])})"


def dropped_projection(node: ast.expr, source: Callable[[ast.expr], str]) -> Iterator[Change]:
    """`region.project(x)` and `region.clip(x)` become `x`, `x.clamp(…)` becomes `x`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _PROJECTIONS:
        kept = node.func.value if node.func.attr == "clamp" else next(iter(node.args), None)
        if kept is not None:
            yield node, f"({source(kept)})"


def swapped_arguments(node: ast.expr, source: Callable[[ast.expr], str]) -> Iterator[Change]:
    """The first two arguments of a call change places."""
    if isinstance(node, ast.Call) and len(node.args) >= 2 and not any(isinstance(a, ast.Starred) for a in node.args):
        first, second = node.args[:2]
        if source(first) != source(second):
            rest = [source(one) for one in node.args[2:]] + [
                f"{word.arg}={source(word.value)}" if word.arg else f"**{source(word.value)}" for word in node.keywords
            ]
            yield node, f"{source(node.func)}({', '.join([source(second), source(first), *rest])})"


OPERATORS = (sign, bound, off_by_one, comparison, dropped_projection, swapped_arguments)


def faults_of(file: Path, sources: Path) -> Iterator[Fault]:
    """Every fault that the operators can make of a file; messages, annotations and decorators are left alone."""
    content = file.read_bytes()
    lines = content.split(b"\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)

    def span(node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    def source(node: ast.expr) -> str:
        start, end = span(node)
        return content[start:end].decode()

    for node in _expressions(ast.parse(content)):
        for operator in OPERATORS:
            for changed, text in operator(node, source):
                start, end = span(changed)
                name = str(file.relative_to(sources))
                yield Fault(operator.__name__, name, changed.lineno, start, end, text)


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    """Expressions that compute something, outermost first."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
        return
    if isinstance(node, ast.expr):
        yield node
    left_alone = {"annotation", "returns", "decorator_list", "bases"}
    if isinstance(node, ast.ClassDef):
        left_alone.add("keywords")
    for field, value in ast.iter_fields(node):
        if field in left_alone:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _expressions(child)


def drawn(count: int, seed: int, packages: Sequence[str], sources: Path) -> list[Fault]:
    """As many faults of each operator as can be, in an order that depends on the seed alone."""
    generator = random.Random(seed)
    by_operator: dict[str, list[Fault]] = {operator.__name__: [] for operator in OPERATORS}
    for package in packages:
        for file in sorted((sources / "gauntlet" / package).rglob("*.py")):
            for fault in faults_of(file, sources):
                by_operator[fault.operator].append(fault)
    for faults in by_operator.values():
        generator.shuffle(faults)
    turns = max(map(len, by_operator.values()), default=0)
    ordered = [faults[turn] for turn in range(turns) for faults in by_operator.values() if turn < len(faults)]
    return ordered[:count]


def tests_of(fault: Fault, tests: Path) -> list[list[str]]:
    """The tests to run, nearest first: those named after the module, then all of its package."""
    package, module = Path(fault.file).parts[1], Path(fault.file).stem
    own = sorted(str(file) for file in (tests / package).rglob(f"test_{module}*.py"))
    return [*([own] if own else []), [str(tests / package)]]


def survives(fault: Fault, sources: Path, workers: int) -> bool:
    """Return whether all tests pass with the fault in a copy of the sources."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "src"
        shutil.copytree(sources, copy, ignore=shutil.ignore_patterns("__pycache__"))
        file = copy / fault.file
        content = file.read_bytes()
        file.write_bytes(content[: fault.start] + fault.text.encode() + content[fault.end :])
        return all(passes(chosen, copy, workers) for chosen in tests_of(fault, ROOT / "tests"))


def passes(tests: Sequence[str], sources: Path, workers: int) -> bool:
    """Return whether tests pass on these sources, within the time limit."""
    environment = os.environ | {"PYTHONPATH": f"{sources}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    command += ["-n", str(workers), "--dist=loadscope"] if workers > 1 else []
    try:
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode in (0, 5)  # 5: no test was collected


def check_tests(packages: Sequence[str], sources: Path, workers: int) -> None:
    """Exit unless the tests of every package pass without a fault: otherwise they would kill every fault."""
    for package in packages:
        if not passes([str(ROOT / "tests" / package)], sources, workers):
            sys.exit(f"the tests of {package} fail without a fault: mend them first")


def shown(fault: Fault, sources: Path) -> str:
    """The fault as one line of text."""
    content = (sources / fault.file).read_bytes()
    before = content[fault.start : fault.end].decode()
    return f"{fault.file}:{fault.line} {fault.operator}: {before!r} -> {fault.text!r}"


def main(words: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser("python -m scripts.mutate", description="Faults that the tests do not notice.")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--packages", nargs="+", default=list(PACKAGES))
    parser.add_argument("--workers", type=int, default=1, help="processes of pytest")
    parser.add_argument("--list", action="store_true", help="only show what is drawn")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "mutants.json")
    given = parser.parse_args(words)
    sources = ROOT / "src"
    done: dict[str, bool] = json.loads(given.out.read_text()) if given.out.exists() and not given.list else {}
    faults = drawn(given.count, given.seed, given.packages, sources)
    if not given.list:
        check_tests(given.packages, sources, given.workers)
    for number, fault in enumerate(faults, 1):
        text = shown(fault, sources)
        if given.list:
            print(text)
            continue
        if text not in done:
            done[text] = survives(fault, sources, given.workers)
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(json.dumps(done, indent=1) + "\n")
        print(f"{number} of {len(faults)}: {'SURVIVES' if done[text] else 'killed'}: {text}", flush=True)
    if not given.list:
        survivors = [text for text in done if done[text]]
        print(f"{len(survivors)} of {len(done)} faults survive", *survivors, sep="\n")


if __name__ == "__main__":
    main()
