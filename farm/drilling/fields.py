"""Finding one field in a unit's OPC UA PubSub JSON by its path, whatever a gateway puts around it.

Owns ids, paths, and the two ways to a value: the cheap one in the raw bytes, and the parsed one.
Knows nothing of holes; `farm.drilling.opcua` does. OPC UA Part 14 section 7.2.5 is the envelope.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from farm.errors import ReadError

if TYPE_CHECKING:
    from collections.abc import Sequence

SUFFIX: Final = ".MeasuredValue"  # some gateways end the keys of measured values so
ROOTS: Final = (".ResultManagement.", ".AssetManagement.")  # what follows the tool's name in a key
ABSENT: Final = object()  # a field that isn't there, which null is not
MAX_ID_CHARS: Final = 128

_WS = rb"[ \t\r\n]{0,200}"  # JSON's own white space, bounded so that no input makes it quadratic
_KEY_END = rb"(?:\.MeasuredValue)?\"" + _WS + b":" + _WS
# An object without anything nested: in it the first closing brace ends the object, or stands in a
# string, and then what was cut out isn't JSON and is refused by the parser.
_FLAT_OBJECT = re.compile(_KEY_END + rb"(\{[^{}\[\]]{0,8000}\})")
# The same in a message that ends too early: the value counts only if a delimiter follows it, since
# {"Value": 44 may have been 440.
_VALUE_BEFORE_CUT = re.compile(
    _KEY_END + rb"\{(?:[^{}\[\]]{0,400}?,)?" + _WS + rb"\"Value\"" + _WS + b":" + _WS +
    rb"(\"(?:[^\"\\]|\\.){0,2000}\"|-?[0-9][0-9.eE+-]{0,400})" + _WS + rb"[,}]"
)  # fmt: skip
_BOUNDARIES = frozenset(b'."=')  # what may stand before a path inside a key

_JSON_CAUSES = (  # how orjson begins its complaint, and how we say it
    ("unexpected end", "cut short"),
    ("Input is a zero-length", "empty"),
    ("str is not valid UTF-8", "not valid UTF-8"),
    ("depth limit", "nested too deeply"),
    ("number is infinity", "not readable, it holds a number too big for a double"),
)


_SHORT_ID_CHARS = 9
_SHORT_ID = 10**_SHORT_ID_CHARS


def canonical_id(value: object, *, max_chars: int = MAX_ID_CHARS) -> str:
    """The one spelling of an id that gateways send as 440, 440.0, "440" or " 440 ".

    Args:
        value: the id as parsed from JSON.
        max_chars: the longest id that is accepted, in characters.

    Raises:
        ReadError: it is no id: the message says what it is instead.
    """
    if type(value) is int and 0 <= value < _SHORT_ID and max_chars >= _SHORT_ID_CHARS:
        return str(value)  # nearly every id
    if isinstance(value, str):
        text = _clean_id(value)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ReadError(f"the id is {json_type(value)}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ReadError("the id is not a finite number")
    elif abs(value) >= 10**max_chars:  # before it becomes text: Python refuses that at 4300 digits
        raise ReadError(f"the id is longer than {max_chars} characters")
    else:
        text = str(int(value)) if value == int(value) else repr(value)
    if len(text) > max_chars:
        raise ReadError(f"the id is longer than {max_chars} characters")
    return text


def _clean_id(value: str) -> str:
    if not value.isprintable():  # control characters, and lone surrogates that UTF-8 can't carry
        raise ReadError("the id holds characters that can't be printed")
    text = value.strip()
    if not text:
        raise ReadError("the id is empty")
    return text


def json_type(value: object) -> str:
    """The kind of a JSON value in words: null, a boolean, a text, a list, an object or a number."""
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else "of no type")


class Field:
    """One configured path, in the forms in which it is searched for.

    Attributes:
        path: without namespace, tool name and `.MeasuredValue`.
    """

    __slots__ = ("_dotted", "_equalled", "_needle", "path")

    def __init__(self, configured: str) -> None:
        self.path = bare_path(configured)
        self._dotted = "." + self.path
        self._equalled = "=" + self.path
        self._needle = orjson.dumps(self.path)[1:-1]

    def peek(self, payload: bytes) -> Any:
        """The value of the first such field, without reading the rest of the message.

        Returns:
            What JSON holds there, or ABSENT if this way finds nothing certain; then `parse` may.
        """
        found = self._match(payload, _FLAT_OBJECT)
        if found is None:
            return ABSENT
        try:
            return orjson.loads(found).get("Value", ABSENT)
        except orjson.JSONDecodeError:
            return ABSENT

    def salvage(self, payload: bytes) -> Any:
        """Like `peek`, for a message that isn't JSON any more; ABSENT if the value is lost."""
        found = self._match(payload, _VALUE_BEFORE_CUT)
        try:
            return ABSENT if found is None else orjson.loads(found)
        except orjson.JSONDecodeError:
            return ABSENT

    def of(self, fields: dict[str, Any]) -> Any:
        """The value of the first such field of a parsed message, or ABSENT."""
        for key, entry in fields.items():
            if self.is_key(key.removesuffix(SUFFIX)):
                return entry.get("Value", ABSENT) if isinstance(entry, dict) else entry
        return ABSENT

    def is_key(self, name: str) -> bool:
        """Whether a key without `.MeasuredValue` names this field."""
        return name.endswith((self._dotted, self._equalled)) or name == self.path

    def _match(self, payload: bytes, pattern: re.Pattern[bytes]) -> bytes | None:
        needle, at = self._needle, -1
        while (at := payload.find(needle, at + 1)) >= 0:
            # `ResultId` must not be found in `StepResultId`, nor at the start of a message.
            if at and payload[at - 1] in _BOUNDARIES:
                match = pattern.match(payload, at + len(needle))
                if match:
                    return match[1]
            at += len(needle) - 1
        return None


class Fields:
    """Several fields that are looked for in one pass over a message's keys.

    Only keys that end as one of them does are compared with it: a message has twenty, and asking
    each of ten fields about each of them cost a fifth of the reading.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self._count = len(fields)
        self._by_tail: dict[str, list[tuple[int, Field]]] = {}
        for at, field in enumerate(fields):
            self._by_tail.setdefault(_tail(field.path), []).append((at, field))

    def of(self, fields: dict[str, Any]) -> list[Any]:
        """What `Field.of` returns for each field, in order."""
        found = [ABSENT] * self._count
        missing = set(range(self._count))
        for key, entry in fields.items():
            name = key.removesuffix(SUFFIX)
            for at, field in self._by_tail.get(_tail(name), ()):
                if at in missing and field.is_key(name):
                    missing.remove(at)
                    found[at] = entry.get("Value", ABSENT) if isinstance(entry, dict) else entry
            if not missing:
                break
        return found


def _tail(name: str) -> str:
    """What stands behind a name's last dot or equals sign: the same for a key and its path."""
    return name.rpartition(".")[2].rpartition("=")[2]


def bare_path(configured: str) -> str:
    """A path as DOMAIN writes it, from the same, or with suffix, or a gateway's whole key.

    >>> bare_path("nsu=http://example.org/IJT;s=Objects.DeviceSet.A.B.ResultManagement.X.MeasuredValue")
    'ResultManagement.X'
    """
    path = configured.strip().removesuffix(SUFFIX)
    namespace, separator, rest = path.partition(";s=")
    if separator and namespace.startswith("nsu="):
        path = rest
    elif path.startswith("s="):
        path = path[2:]
    if not path.startswith("Objects.DeviceSet."):
        return path
    path = path.removeprefix("Objects.DeviceSet.")
    starts = [at for root in ROOTS if (at := path.find(root)) >= 0]  # a tool's name may hold dots
    return path[min(starts) + 1 :] if starts else path.partition(".")[2] or path


def parse(payload: bytes) -> dict[str, Any]:
    """The fields of a message, by their keys as sent.

    Raises:
        ReadError: it is no JSON, or no such message; the sentence goes on after "the message is".
    """
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise ReadError(f"the message is {_json_cause(payload, error)}") from error
    if not isinstance(message, dict):
        raise ReadError(f"the message is {json_type(message)}, not an object")
    data_sets = message.get("Messages")
    fields: dict[str, Any] = {}
    # Part 14 makes Messages a list; the gateways send the one object bare.
    for data_set in data_sets if isinstance(data_sets, list) else [data_sets]:
        found = data_set.get("Payload") if isinstance(data_set, dict) else None
        if isinstance(found, dict):
            for key, entry in found.items():
                fields.setdefault(key, entry)
    if not fields:
        raise ReadError("the message is without fields (Messages.Payload)")
    return fields


def _json_cause(payload: bytes, error: orjson.JSONDecodeError) -> str:
    # The place is counted in characters: one that was missed only makes the sentence plainer.
    near = payload[max(0, error.pos - 2) : error.pos + 10]
    if b"NaN" in near or b"Infinity" in near:
        return "no JSON, it holds NaN or Infinity"
    for start, cause in _JSON_CAUSES:
        if error.msg.startswith(start):
            return cause
    return f"no JSON from character {error.pos} on"
