"""Reads a YAML file into settings that know their line.

Owns the syntax: marks, duplicate and unknown keys, what a scalar means where text is wanted. Does
not check values. Messages quote no values, since any of them may be a password in the wrong place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from farm.config.keys import Leaf, join, suggestion, tree
from farm.config.setting import Reading, Setting

_TAG = "tag:yaml.org,2002:"
_SCALARS = frozenset(_TAG + name for name in ("null", "bool", "int", "float", "str", "timestamp"))
MAX_FILE_BYTES = 1_000_000  # ours has 20 kB
MAX_VALUES = 100_000  # with each alias (*name) counted for all that it stands for
_TOO_MUCH = f"holds more than {MAX_VALUES} values, its aliases written out"
_COLLECTIONS = frozenset((_TAG + "map", _TAG + "seq"))
_QUOTE_HINT = "write text that starts with one of & * ! % @ ` in quotes"
_IS_MAPPING = "must be a mapping of keys to values"
_NO_END = "is nested without end"
_ODD = "not valid YAML: an escape or a version in it is none"
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1  # what settings can carry to workers


def read_file(path: Path) -> Reading:
    """The settings of a configuration file; an empty file gives none.

    Whatever is wrong with the file is among the problems; nothing is raised.
    """
    reading = Reading()
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        is_too_large = len(raw) > MAX_FILE_BYTES
        text = "" if is_too_large else raw.decode("utf-8-sig")
    except FileNotFoundError:
        reading.problems.append(f"{path}: no such file")
    except OSError as error:
        reading.problems.append(f"{path}: can't be read: {error.strerror}")
    except UnicodeDecodeError as error:
        reading.problems.append(f"{path}: is not UTF-8 text (byte {error.start})")
    else:
        if is_too_large:
            reading.problems.append(f"{path}: has more than {MAX_FILE_BYTES} bytes")
        else:
            _read_text(text, path, reading)
    return reading


def plain_value(text: str) -> Any:
    """The value of a piece of YAML or JSON, as an environment variable may hold.

    Raises:
        ValueError: it is no YAML, or more than plain values.
    """
    source = _Source(Path(), Reading())
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        is_bounded = _values_in(node, {}) <= MAX_VALUES
        value = source.plain(node, "value") if node is not None and is_bounded else None
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError):
        raise ValueError("must be YAML or JSON") from None
    if not is_bounded:
        raise ValueError(_TOO_MUCH)
    if source.reading.problems:
        raise ValueError("must be plain YAML or JSON without repeated keys")
    return value


def _read_text(text: str, path: Path, reading: Reading) -> None:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if _values_in(node, {}) > MAX_VALUES:
            reading.problems.append(f"{path}: {_TOO_MUCH}")
        elif node is not None and not _is_null(node):
            _Source(path, reading).section(node, "")
    except yaml.MarkedYAMLError as error:
        reading.problems.append(f"{path}{_position(error)}: not valid YAML: {_cause(error)}")
    except yaml.reader.ReaderError as error:
        reading.problems.append(f"{path}: not valid YAML: {error.reason}")
    except RecursionError:
        reading.problems.append(f"{path}: {_NO_END}")
    except (ValueError, OverflowError):  # PyYAML trusts such numbers, and Python does not
        reading.problems.append(f"{path}: {_ODD}")


@dataclass(slots=True)
class _Source:
    """One file on its way through the tree of names."""

    path: Path
    reading: Reading
    constructor: yaml.constructor.SafeConstructor = field(
        default_factory=yaml.constructor.SafeConstructor
    )

    def section(self, node: yaml.Node, section: str) -> None:
        """Take in all keys of a section."""
        if not isinstance(node, yaml.MappingNode):
            start = f"{section}: " if section else "the file "
            self.problem(node, f"{start}{_IS_MAPPING}")
            return
        for name, key_node, value in self.pairs(node, section):
            key = join(section, name)
            if key in tree().sections:
                if not _is_null(value):
                    self.section(value, key)
            elif key in tree().leaves:
                self.leaf(tree().leaves[key], key_node, value)
            else:
                self.problem(key_node, f"unknown key {key}{suggestion(section, name)}")

    def leaf(self, leaf: Leaf, key_node: yaml.Node, node: yaml.Node) -> None:
        """Take in one value; a key without a value keeps its default."""
        if _is_null(node):
            return
        line = _line(key_node)
        if leaf.is_text and isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            value: Any = node.value  # literally: 0012 and `on` are text here
        else:
            problems = len(self.reading.problems)
            value = self.plain(node, leaf.name)
            if len(self.reading.problems) > problems:
                return
        self.reading.settings.append(
            Setting(
                key=leaf.name,
                value=value,
                origin=f"file {self.path}:{line}",
                blame=f"{self.path}:{line}: {leaf.name}",
            )
        )

    def plain(self, node: yaml.Node, name: str) -> Any:
        """The value of any node as dicts, lists, text, numbers, booleans and None."""
        if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
            self.problem(node, f"{name}: a YAML tag is not supported here: {_QUOTE_HINT}")
            return None
        if isinstance(node, yaml.MappingNode):
            pairs = self.pairs(node, name)
            return {key: self.plain(value, join(name, key)) for key, _, value in pairs}
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item, name) for item in node.value]
        if node.tag not in _SCALARS:
            self.problem(node, f"{name}: a YAML tag is not supported here: {_QUOTE_HINT}")
            return None
        if node.tag == f"{_TAG}timestamp":
            return node.value  # settings travel to workers as JSON, which knows no dates
        return self._scalar(node, name)

    def _scalar(self, node: yaml.Node, name: str) -> Any:
        try:
            value = self.constructor.construct_object(node)
            if isinstance(value, str):
                value.encode()
        except UnicodeEncodeError:
            self.problem(node, f"{name}: must be valid UTF-8")
            return None
        # `0x_`, `!!bool maybe`, `!!float ""`: PyYAML looks at the form alone
        except (ValueError, KeyError, IndexError):
            kind = node.tag.removeprefix(_TAG)
            self.problem(node, f"{name}: is no {kind}: write text that looks like one in quotes")
            return None
        if isinstance(value, int) and not _INT64_MIN <= value <= _UINT64_MAX:
            self.problem(node, f"{name}: must be a number of at most 64 bits")
            return None
        return value

    def pairs(self, node: yaml.MappingNode, name: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """The keys and values of a mapping, merge keys (<<) resolved, repeated ones refused."""
        first: dict[str, int] = {}
        for key_node, _ in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else ""
            if key in first and key_node.tag != f"{_TAG}merge":
                where = f"(first in line {first[key]})"
                self.problem(key_node, f"{join(name, key)} is given twice {where}")
            first.setdefault(key, _line(key_node))
        self.constructor.flatten_mapping(node)
        found: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
        for key_node, value in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                found[key_node.value] = (key_node.value, key_node, value)
            else:
                self.problem(key_node, f"{name or 'the file'}: a key must be a word")
        return list(found.values())

    def problem(self, node: yaml.Node, text: str) -> None:
        """Note what is wrong, at the node's line."""
        self.reading.problems.append(f"{self.path}:{_line(node)}: {text}")


def _values_in(node: yaml.Node | None, known: dict[int, int]) -> int:
    """How many values a node is once its aliases are written out; none of them is.

    Raises:
        RecursionError: it is inside itself.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        children = node.value
        if isinstance(node, yaml.MappingNode):
            children = [each for pair in children for each in pair]
        known[id(node)] = 1 + sum(_values_in(each, known) for each in children)
    return known[id(node)]


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}null"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _position(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f":{mark.line + 1}:{mark.column + 1}" if mark else ""


def _cause(error: yaml.MarkedYAMLError) -> str:
    """The parser's sentence without what it quotes of the file: that may be a password."""
    problem = re.sub(r"'[^'<]{2,}'", "'…'", error.problem or "can't be understood")
    needs_quotes = "alias" in problem or "token" in problem or "tag" in problem
    return f"{problem} ({_QUOTE_HINT})" if needs_quotes else problem
