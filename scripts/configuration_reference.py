"""Write docs/configuration.md: every group of conf/, its options, their keys and their meaning.

    python scripts/configuration_reference.py            # write the page
    python scripts/configuration_reference.py --check    # only test whether it is up to date; exit code 1 if not

The meaning of a key is the comment on its line or above it, else its entry in the docstring of the class that takes it,
else its meaning in the option of the same group that train.yaml chooses. A key without any of these is an error.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
PAGE = ROOT / "docs" / "configuration.md"

GROUPS = {
    "dataset": "What is classified, with everything that depends on it: bounds, recipe, the distance of the records.",
    "extra": "A second source of training images: `+extra@dataset.extra=npz`.",
    "model": "The classifier. Everything takes images in [0, 1] and normalises inside.",
    "distance": "d(x, x') ≥ 0, for perceptual threat models and for the column `lpips` of the records.",
    "threat_model": "The images an adversary may show. Bounds come from the dataset.",
    "imagenet_ua": "ImageNet-UA's bounds, steps and shapes, by dataset.",
    "attack": "A search inside a threat model, chosen beside it: `/threat_model@attacks.<name>.threat_model: linf`.",
    "attack/training": "The short searches that defenses train on.",
    "attack/paper": "Attacks with the settings of the paper's tables.",
    "attack/strong": "The strongest attacks for a threat model.",
    "attack_suite": "A named set of attacks, certificates and transforms, and the aggregates over them.",
    "defense": "How the classifier is trained.",
    "defense/several": "Settings shared by the regimes against several threats at once.",
    "trainer": "Lightning's Trainer; any of its arguments can be added with `+trainer.<argument>=…`.",
    "callbacks": "Lightning callbacks during training.",
    "logger": "Where metrics go besides `metrics.csv`.",
    "evaluation": "How records are made.",
    "mode": "On which examples each attack is run.",
    "hydra/sweeper": "The jobs of a sweep (`-m`).",
    "hydra/launcher": "Where the jobs of a sweep run; without a choice one after the other in this process.",
}
"""The order of the page, and a line on each group; other groups come after them."""

LISTED = ("experiment", "published")
"""Groups whose options are overlays or data, listed with a line each and without keys."""

GIVEN = {
    "dataset": {"batch_size", "seed", "root", "workers", "augmentation"},
    "defense": {"classifier", "seed"},
    "logger": {"folder", "name", "group", "run_id", "job_type"},
    "evaluation": {"rank", "world"},
}
"""Arguments that the commands fill in, which are no keys of an option."""

COMMANDS = {
    "train": "`python train.py defense=…`",
    "evaluate": "`python evaluate.py checkpoint=…`",
    "report": "`python report.py runs=…`",
}

HEAD = """\
# Configuration

Written by `python scripts/configuration_reference.py` from `conf/`; a test compares the two.

An experiment is one config that Hydra composes from a file per choice. `group=option` chooses a file, `key.of.it=value`
changes a value, `+key=value` adds one that its file does not have, and `++key=value` does whichever is right; quote
what the shell would read (`'model.taps=[layer1,layer2]'`, `'threat_model.bound=${frac:8,255}'`). `--cfg job` prints the
whole config and does nothing. `???` has to be given. `${…}` refers to another key; `${frac:8,255}` is 8/255.

"""


@dataclass(frozen=True)
class Key:
    """One line of a table."""

    path: str
    value: str
    meaning: str
    within: bool = False
    """Whether it is part of a mapping that has a meaning as a whole."""


@dataclass(frozen=True)
class Option:
    """One file of conf/."""

    file: Path
    text: str
    node: yaml.MappingNode

    @property
    def name(self) -> str:
        """Name on the command line."""
        return self.file.stem

    @property
    def lines(self) -> list[str]:
        """Lines of the file."""
        return self.text.splitlines()

    @property
    def about(self) -> str:
        """The comment at the beginning of the file."""
        comment = []
        for line in self.lines:
            if not line.startswith("#"):
                break
            if not line.startswith("# @package"):
                comment.append(line.removeprefix("#").strip())
        return " ".join(comment)

    @property
    def target(self) -> str | None:
        """The class it builds."""
        return _target(self.node)


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, _contents()]
    parts += [_command(name) for name in COMMANDS]
    parts += [_group(group) for group in _groups()]
    parts += [_listed(group) for group in _listed_groups()]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def unexplained() -> list[str]:
    """Return `file: key` for keys without a meaning, and for files without a comment at their beginning."""
    options = [read_option(CONF / f"{command}.yaml") for command in COMMANDS]
    for group in _groups():
        options += _options(group)
    files = [f"{option.file.relative_to(ROOT)}: the file" for option in options if not option.about]
    keys = []
    for option in options:
        bare = [key.path for key in option_keys(option) if not (key.meaning or key.within)]
        keys += [f"{option.file.relative_to(ROOT)}: {path}" for path in bare]
    return files + keys


def _groups() -> list[str]:
    """Return the groups of options with keys, in the order of the page."""
    folders = {str(file.parent.relative_to(CONF)) for file in CONF.rglob("*.yaml")} - {"."}
    groups = {group for group in folders if group.split("/")[0] not in LISTED}
    return [*(group for group in GROUPS if group in groups), *sorted(groups - GROUPS.keys())]


def _listed_groups() -> list[str]:
    groups = []
    for top in LISTED:
        groups += sorted({str(file.parent.relative_to(CONF)) for file in (CONF / top).rglob("*.yaml")})
    return groups


def _contents() -> str:
    names = [*(f"{command}.py" for command in COMMANDS), *_groups(), *_listed_groups()]
    return ", ".join(f"[{name}](#{_anchor(name)})" for name in names) + "\n"


def _anchor(heading: str) -> str:
    """Return GitHub's anchor of a heading."""
    return re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))


def _command(name: str) -> str:
    option = read_option(CONF / f"{name}.yaml")
    chosen = [entry for entry in _defaults(option) if isinstance(entry, dict) and not _overrides(entry)]
    lines = [f"## {name}.py", "", COMMANDS[name], ""]
    if chosen:
        lines += ["| choice | without one |", "| --- | --- |"]
        for entry in chosen:
            lines += [f"| `{group}` | {_code(value)} |" for group, value in entry.items()]
        lines += [""]
    return "\n".join([*lines, *_table(option_keys(option))])


def _group(group: str) -> str:
    options = _options(group)
    lines = [f"## {group}", ""]
    if group in GROUPS:
        lines += [GROUPS[group], ""]
    default = _default_of(group)
    if default:
        lines += [f"`{group}={default}` unless another is chosen.", ""]
    for option in options:
        between = "/" if group.startswith(("attack/", "defense/")) else "="  # parts of options are no choices
        lines += [f"### {group}{between}{option.name}", ""]
        lines += [line for line in (_cell(option.about), _built(option, group)) if line]
        lines += [*_parts(option, group), "", *_table(option_keys(option))]
    return "\n".join(lines)


def _listed(group: str) -> str:
    rows = [f"| `{option.name}` | {_cell(option.about)} |" for option in _options(group)]
    return "\n".join([f"## {group}", "", "| option | |", "| --- | --- |", *rows, ""])


def _table(keys: Sequence[Key]) -> list[str]:
    if not keys:
        return []
    rows = [f"| `{key.path}` | {_code(key.value)} | {_cell(key.meaning)} |" for key in keys]
    return ["| key | value | |", "| --- | --- | --- |", *rows, ""]


def _built(option: Option, group: str) -> str:
    """Return the class, and its arguments that the file leaves at their defaults."""
    if option.target is None:
        return ""
    sentences = [f"Builds `{option.target}`."]
    filled = {key for key, _ in _children(option.node)} | _filled_keys(option) | GIVEN.get(group.split("/")[0], set())
    spare = [
        f"`{name}` ({_code(_shown(parameter.default))})"
        for name, parameter in _parameters(option.target).items()
        if name not in filled and parameter.default is not parameter.empty
    ]
    if spare:
        sentences.append(f"Also takes, added with `+`: {', '.join(spare)}.")
    return "\n" + " ".join(sentences)


def _parts(option: Option, group: str) -> list[str]:
    """Return the options that its defaults list includes, with the words that choose others instead."""
    rows = []
    for entry in _defaults(option):
        for key, value in entry.items() if isinstance(entry, dict) else ():
            choice, _, package = key.removeprefix("override ").lstrip("/").partition("@")
            if package.startswith("_global_"):
                rows.append((choice, value))
            elif key.startswith(("/", "override /")) and group.split("/")[0] != "attack" and "/" not in group:
                rows.append((f"{choice}@{group}.{package}", value))
            else:
                rows.append((package, f"{choice}/{value}"))
        if isinstance(entry, str) and entry != "_self_":
            taken, _, package = entry.partition("@")
            rows.append((package, f"{group}/{taken}") if "." in package else ("", f"{group}/{taken}"))
    if not rows:
        return []
    lines = [f"| {_code(choice) or 'everything of'} | {_code(value)} |" for choice, value in rows]
    return ["", "| part | |", "| --- | --- |", *lines]


def _filled_keys(option: Option) -> set[str]:
    """Return the keys that its defaults list fills."""
    keys = set()
    for entry in _defaults(option):
        for key in entry if isinstance(entry, dict) else ():
            package = key.partition("@")[2]
            keys.add(package.split(".")[0])
        if isinstance(entry, str) and entry != "_self_":
            inherited = read_option(option.file.parent / f"{entry.partition('@')[0]}.yaml")
            keys |= {key for key, _ in _children(inherited.node)} | _filled_keys(inherited)
    return keys


def option_keys(option: Option) -> list[Key]:
    """Return every key with its value as written and its meaning."""
    group = str(option.file.parent.relative_to(CONF))
    default = _default_of(group)
    usual = read_option(CONF / group / f"{default}.yaml") if default and default != option.name else None
    known = {key.path: key.meaning for key in _walk(usual, usual.node, "")} if usual else {}
    return [replace(key, meaning=key.meaning or known.get(key.path, "")) for key in _walk(option, option.node, "")]


def _walk(option: Option, node: yaml.MappingNode, above: str, within: bool = False) -> Iterator[Key]:
    arguments = _explained(_target(node) or (None if above else _inherited_target(option)))
    for name, key, value in _entries(node):
        if name in ("_target_", "_partial_", "defaults", "hydra", "row"):
            continue
        path = f"{above}.{name}".lstrip(".")
        meaning = _comment(option, key, value) or arguments.get(name, "")
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            target = _target(value)
            if target or meaning:
                yield Key(path, target or "", meaning or _first_line(target), within)
            yield from _walk(option, value, path, not target and (within or bool(meaning)))
        else:
            kind = value.value[0] if isinstance(value, yaml.SequenceNode) and value.value else value
            yield Key(path, _written(option, value), meaning or _first_line(_target(kind)), within)


def _inherited_target(option: Option) -> str | None:
    """Return the target of the option of its own group that it extends."""
    for entry in _defaults(option):
        if isinstance(entry, str) and entry != "_self_" and "@" not in entry:
            parent = read_option(option.file.parent / f"{entry}.yaml")
            return parent.target or _inherited_target(parent)
    return None


def _comment(option: Option, key: yaml.Node, value: yaml.Node) -> str:
    """Return the comment on the line of the key, else the one right above it."""
    block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    line, column = (key.end_mark.line, key.end_mark.column) if block else (value.end_mark.line, value.end_mark.column)
    if not block and value.start_mark.index == value.end_mark.index:
        line, column = key.end_mark.line, key.end_mark.column
    rest = option.lines[line][column:].lstrip(": ")
    if rest.startswith("#"):
        return rest.removeprefix("#").strip()
    above = []
    for text in reversed(option.lines[: key.start_mark.line]):
        if not text.strip().startswith("#") or len(text) - len(text.lstrip()) != key.start_mark.column:
            break
        above.append(text.strip().removeprefix("#").strip())
    of_the_file = key.start_mark.line == len(above)
    return "" if of_the_file else " ".join(reversed(above))


def _written(option: Option, node: yaml.Node) -> str:
    """Return a value as in the file; a class with its arguments as a call."""
    if isinstance(node, yaml.MappingNode):
        if target := _target(node):
            arguments = [f"{name}={_written(option, value)}" for name, _, value in _entries(node) if name != "_target_"]
            return f"{target.rpartition('.')[2]}({', '.join(arguments)})"
        return "{" + ", ".join(f"{name}: {_written(option, value)}" for name, _, value in _entries(node)) + "}"
    if isinstance(node, yaml.SequenceNode) and not node.flow_style:
        return f"[{', '.join(_written(option, value) for value in node.value)}]"
    return " ".join(option.text[node.start_mark.index : node.end_mark.index].split()).strip('"')


def _entries(node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    for key, value in node.value:
        yield key.value, key, value


def _children(node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node]]:
    for name, _, value in _entries(node):
        yield name, value


def _target(node: yaml.Node) -> str | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    target = next((value.value for name, _, value in _entries(node) if name == "_target_"), None)
    return None if target == "???" else target


def _explained(target: str | None) -> dict[str, str]:
    """Return the arguments in the docstrings of a class of ours and its bases, or of a function."""
    if target is None or not target.startswith(("gauntlet.", "hydra_plugins.")):
        return {}  # texts of another library change with its versions
    documented = _object(target)
    meanings: dict[str, str] = {}
    # a subclass documents what it adds or changes
    for each in reversed(documented.__mro__) if isinstance(documented, type) else [documented]:
        if each.__module__.startswith(("gauntlet.", "hydra_plugins.")):
            meanings |= _arguments(inspect.cleandoc(each.__doc__ or ""))
    return meanings


def _arguments(docstring: str) -> dict[str, str]:
    """Return the entries of the section `Args:`."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", docstring, re.M | re.S)
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in (section[1] if section else "").splitlines():
        if entry := re.match(r"    ([\w, ]+): (.*)", line):
            names = [name.strip() for name in entry[1].split(",")]
            meanings |= dict.fromkeys(names, entry[2])
        elif line.strip():
            meanings |= {name: f"{meanings[name]} {line.strip()}" for name in names}
    return meanings


def _first_line(target: str | None) -> str:
    """Return the summary of a docstring of ours."""
    if target is None or not target.startswith("gauntlet."):
        return ""
    return (inspect.getdoc(_object(target)) or "").split("\n\n")[0].replace("\n", " ")


@cache
def _object(target: str) -> Any:
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)


def _parameters(target: str) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of one of our classes or functions."""
    if not target.startswith("gauntlet."):
        return {}
    return inspect.signature(_object(target)).parameters


def _shown(default: Any) -> str:
    """Return a default value as text; a factory as the class it makes."""
    if type(default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
        return "an object"
    return type(default).__name__ if hasattr(default, "__dataclass_fields__") else repr(default)


def _defaults(option: Option) -> list[Any]:
    content = yaml.safe_load(option.text)
    return content.get("defaults", []) if isinstance(content, dict) else []


def _overrides(entry: Mapping[str, Any]) -> bool:
    return any(key.startswith("override ") for key in entry)


def _default_of(group: str) -> str | None:
    """Return the option of a group that train.yaml chooses."""
    for entry in _defaults(read_option(CONF / "train.yaml")):
        if isinstance(entry, dict) and entry.get(group) not in (None, "???"):
            return str(entry[group])
    return None


def _options(group: str) -> list[Option]:
    return [read_option(file) for file in sorted((CONF / group).glob("*.yaml"))]


@cache
def read_option(file: Path) -> Option:
    """Parse a file of conf/."""
    text = file.read_text()
    node = yaml.compose(text)
    empty = yaml.MappingNode("tag:yaml.org,2002:map", [])
    return Option(file, text, node if isinstance(node, yaml.MappingNode) else empty)


def _code(value: Any) -> str:
    """Format a value as code in a table; None is YAML's null."""
    text = "null" if value is None else str(value).replace("|", "\\|")
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    """Escape text for a table; `<` starts no tag."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Write the page, or compare it with the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where the page is stale")
    check = parser.parse_args().check
    if blank := unexplained():
        sys.exit("these have no meaning; add a comment behind them in their YAML:\n" + "\n".join(blank))
    text = page()
    if check:
        sys.exit(0 if PAGE.exists() and PAGE.read_text() == text else f"{PAGE} is stale: run {Path(__file__).name}")
    PAGE.write_text(text)
    print(f"{PAGE.relative_to(ROOT)}: {len(text.splitlines())} lines")


if __name__ == "__main__":
    main()
