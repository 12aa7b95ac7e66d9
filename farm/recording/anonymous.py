"""The `Anonymiser`: rewrites messages so that they say nothing of whose they are.

What is kept is listed here, and all else goes: an unknown text may be a person's name. Numbers
that were measured stay. Parts of a hole still have one id, and tools of a toolbox one toolbox. What
can't be read can't be made anonymous: it is left out, and counted.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from farm.drilling.fields import ROOTS, SUFFIX, Field, canonical_id
from farm.errors import ReadError
from farm.recording.sentences import is_telling, with_ids, with_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm.config import DataIdsConfig
    from farm.recording.pseudonyms import Pseudonyms
    from farm.recording.record import Message
    from farm.recording.traffic import Traffic

NAMESPACE: Final = "http://example.com/IJT"
MAX_DEPTH: Final = 8  # of a value; a trace's list of numbers has one
# Texts that say nothing of anybody: what the machine thinks of the hole, and kinds.
_OPEN_TEXTS: Final = frozenset({"ResultEvaluation", "InternalRecipeType"})
# Numbers under such names may be somebody's or something's own.
_OWN_NAMES: Final = re.compile(r"(?:serial|name|id$|number$|code$|operator|user)", re.IGNORECASE)
_OPEN_NUMBERS: Final = frozenset({"StopCode", "StepNumber"})
# A fraction of a second has seven digits with OPC UA, and room for a serial number has none.
_MOMENT: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?", re.ASCII
)
_SPACE: Final = re.compile(r"nsu=[^;]*?/(ADrilling|AFastening);s=")
# Parts of paths that units send beside the configured ones; any other may be a name.
_PARTS: Final = """
    AssetManagement Assets Controllers CreationTime CuttingTools CycleTime DefaultInstanceBrowseName
    Distance Duration GapLengthTrace GapMax Heads Identification IntensityThrustEmpty
    IntensityThrustTrace IntensityTorqueEmpty IntensityTorqueTrace InternalRecipeId
    InternalRecipeType InternalRecipeVersion JobCode JobNumber LifeTimeCycleCounter LifetimeCounters
    M1Distance M1MaxAmperage M2Distance M2MaxAmperage MeasuredValue Model OperationCounters
    OperatorName OverallResultValues Parameters PartMark PositionTrace PowerTrace ResultContent
    ResultEvaluation ResultId ResultManagement ResultMetaData Results SamplingInterval SerialNumber
    SerialNumbers Servos StepNumber StepNumberTrace StepResultId StepResultValues StepResults
    StepTraceContent StepTraces StopCode Tags Tools Trace Value Values
"""
_OPEN_PARTS: Final = frozenset(_PARTS.split())
_PART: Final = re.compile(r"([^\[\]]*)((?:\[\d{1,3}\])*)")
_PLACE: Final = re.compile(r"\d{1,3}", re.ASCII)  # in a list; a longer number may be an id
_STEP_RESULT_ID: Final = ".StepResultId"
_ANSWER_TEXTS: Final = frozenset({"AlgoVersion", "ModelHash", "Kind"})
_ANSWER_NUMBERS: Final = frozenset({"Value", "Sigma", "Quality", "TipKeyPoints", "Error"})


class HiddenError(Exception):
    """A message can't be made anonymous."""


class Anonymiser:
    """See the module.

    Args:
        traffic: reads topics and ids.
        names: gives the made-up ones.
        shifts_times: also move every time, that of arrival included, by years.

    Attributes:
        shift_s: by how much times are moved.
    """

    def __init__(self, traffic: Traffic, names: Pseudonyms, *, shifts_times: bool = False) -> None:
        self._traffic = traffic
        self._names = names
        self._data = _Paths(traffic.config.mqtt.data_ids)
        self.shift_s = names.shift_s() if shifts_times else 0

    def apply(self, message: Message) -> Message:
        """The message under made-up names.

        Raises:
            HiddenError: it can't be read, or is on no topic that the configuration knows.
        """
        source = self._traffic.source(message.topic)
        if not source:
            raise HiddenError("its topic is unknown")
        payload = self._answer if message.is_answer else self._part
        try:
            body = orjson.loads(message.payload)
        except orjson.JSONDecodeError as error:
            raise HiddenError("it is no JSON") from error
        if not isinstance(body, dict):
            raise HiddenError("it is no object")
        written = orjson.dumps(payload(body, source))
        topic = self._topic(message.topic, source)
        at_ns = max(0, message.at_ns + self.shift_s * 1_000_000_000)
        return message._replace(at_ns=at_ns, topic=topic, payload=written)

    def _topic(self, topic: str, source: str) -> str:
        begin = f"{self._traffic.root}/{source}/"  # a root may have the name of a tool in it
        if not topic.startswith(begin):
            raise HiddenError("its topic is unknown")
        return f"{self._traffic.root}/{self.source(source)}/{topic[len(begin) :]}"

    def source(self, source: str) -> str:
        """The made-up "toolbox/tool"."""
        toolbox, _, tool = source.partition("/")
        return f"{self._toolbox(toolbox)}/{self._tool(toolbox, tool)}"

    def result_id(self, source: str, result_id: str) -> str:
        """The made-up id of a hole."""
        return self._names.like("HOLE", result_id, source)

    def _toolbox(self, toolbox: str) -> str:
        return self._names.name("BOX", toolbox)

    def _tool(self, toolbox: str, tool: str) -> str:
        return self._names.name("UNIT", toolbox, tool)

    # ---- what the units send ------------------------------------------------------------------

    def _part(self, body: dict[str, Any], source: str) -> dict[str, Any]:
        toolbox = source.partition("/")[0]
        sets = body.get("Messages")
        several = isinstance(sets, list)
        written = [
            self._data_set(each, source)
            for each in (sets if isinstance(sets, list) else [sets])
            if isinstance(each, dict)
        ]
        if not written:
            raise HiddenError("it has no fields")
        return {
            "MessageId": self._names.uuid(str(body.get("MessageId"))),
            "MessageType": "ua-data",
            "PublisherId": self._toolbox(toolbox),
            "Messages": written if several else written[0],
        }

    def _data_set(self, data_set: dict[str, Any], source: str) -> dict[str, Any]:
        toolbox, _, tool = source.partition("/")
        writer = data_set.get("DataSetWriterId")
        fields = data_set.get("Payload")
        payload: dict[str, Any] = {}
        for key, entry in fields.items() if isinstance(fields, dict) else ():
            space, path = self._data.split(key)
            if path:
                shown = self._shown(path)
                name = f"{space}{self._tool(toolbox, tool)}.{shown}" if space else shown
                payload[name] = self._entry(path, entry, source)
        return {
            "DataSetWriterId": self._tool(toolbox, tool) if isinstance(writer, str) else 1,
            "SequenceNumber": self._names.number("sequence", str(data_set.get("SequenceNumber"))),
            "Timestamp": self._moment(data_set.get("Timestamp")),
            "MessageType": "ua-keyframe",
            "Payload": payload,
        }

    def _shown(self, path: str) -> str:
        """A path with made-up names for the parts that may be some."""
        return ".".join(
            part if self._data.is_open(part) else self._names.name("FIELD", part)
            for part in path.split(".")
        )

    def _entry(self, path: str, entry: Any, source: str) -> Any:
        if not isinstance(entry, dict):
            return self._value(path, entry, source)
        written: dict[str, Any] = {}
        for name, value in entry.items():  # in the order of the gateway
            if name == "Value":
                written[name] = self._value(path, value, source)
            elif name == "SourceTimestamp":
                written[name] = self._moment(value)
        return written

    def _value(self, path: str, value: Any, source: str, depth: int = MAX_DEPTH) -> Any:
        if isinstance(value, list):
            if depth <= 0:
                raise HiddenError("a value is nested too deeply")
            if all(type(each) in (int, float) for each in value) and not self._data.is_own(path):
                return value  # a trace: nothing to hide, and long
            return [self._value(path, each, source, depth - 1) for each in value]
        if value is None or isinstance(value, bool | dict):
            # no object is known as a value, and its keys may be anything
            return None if isinstance(value, dict) else value
        return self._scalar(path, value, source)

    def _scalar(self, path: str, value: str | float, source: str) -> Any:
        if self._data.is_result_id(path):
            return _alike(value, lambda text: self.result_id(source, text))
        if self._data.is_serial(path):
            return _alike(value, self._serial)
        if isinstance(value, str):
            return self._text(path, value)
        if self._data.is_own(path):
            return _alike(value, lambda text: self._names.like("X", text, path))
        return value

    def _text(self, path: str, value: str) -> str | None:
        if _last(path) in _OPEN_TEXTS:
            return value
        moment = self._moment(value)
        return moment if moment is not None else self._names.like("X", value, path)

    def _serial(self, text: str) -> str:
        return self._names.like("SN", text)

    def _moment(self, value: Any) -> str | None:
        """A time, moved; None where it can't be read as one."""
        if not isinstance(value, str) or not _MOMENT.fullmatch(value):
            return None
        try:
            moment = datetime.fromisoformat(value)
            if not self.shift_s:
                return value
            moved = moment + timedelta(seconds=self.shift_s)
            moved = moved.astimezone(UTC) if moved.tzinfo else moved
        except (ValueError, OverflowError):
            return None
        return moved.replace(tzinfo=None).isoformat(timespec="auto") + "Z"

    # ---- what the farm answers ----------------------------------------------------------------

    def _answer(self, body: dict[str, Any], source: str) -> dict[str, Any]:
        result_id = body.get("ResultId")
        written: dict[str, Any] = {}
        for name, value in body.items():
            if name == "ResultId":
                written[name] = _alike(value, lambda text: self.result_id(source, text))
            elif name in ("MachineId", "HeadId"):
                written[name] = _alike(value, self._serial)
            elif name == "SourceTimestamp":
                written[name] = self._moment(value)
            elif name in ("Value", "Warning") and isinstance(value, str):
                written[name] = self._sentence(value, source, result_id)
            elif name in _ANSWER_TEXTS or (name in _ANSWER_NUMBERS and _is_numeric(value)):
                written[name] = value
        return written

    def _sentence(self, sentence: str, source: str, result_id: Any) -> str:
        """One of the farm's own, with the names that it may repeat."""
        toolbox, _, tool = source.partition("/")
        names = {toolbox: self._toolbox(toolbox), tool: self._tool(toolbox, tool)}
        if isinstance(result_id, str) and is_telling(result_id):
            names[result_id] = self.result_id(source, result_id)
        # ids first: what is put in is hexadecimal or long, and no name
        told = with_ids(sentence, lambda text: self.result_id(source, text))
        return with_words(told, names)


class _Paths:
    """What is known of a field by its path."""

    def __init__(self, data_ids: DataIdsConfig) -> None:
        every = [getattr(data_ids, name) for name in type(data_ids).model_fields]
        self._known = [Field(path) for path in every]
        self._parts = _OPEN_PARTS.union(*(field.path.split(".") for field in self._known))
        ids = (data_ids.result_id, data_ids.trace_result_id, data_ids.head_cycle)
        self._ids = [Field(path) for path in ids]
        self._serials = [Field(path) for path in (data_ids.machine_id, data_ids.head_id)]

    def split(self, key: str) -> tuple[str, str]:
        """What is to stand before the tool in a key, and its path; no path: the key is unknown."""
        name = key.removesuffix(SUFFIX)
        starts = [at for root in ROOTS if (at := key.find(root)) >= 0]
        if starts:
            path = key[min(starts) + 1 :]
        elif key.startswith(tuple(root[1:] for root in ROOTS)):
            path = key
        else:
            path = next((field.path for field in self._known if field.is_key(name)), "")
            path += SUFFIX if path and name != key else ""
        if path == key:
            return "", path
        space = found[1] if (found := _SPACE.match(key)) else "ADrilling"
        return f"nsu={NAMESPACE}/{space};s=Objects.DeviceSet.", path

    def is_result_id(self, path: str) -> bool:
        """Whether the id of a hole stands there."""
        name = path.removesuffix(SUFFIX)
        return name.endswith(_STEP_RESULT_ID) or any(each.is_key(name) for each in self._ids)

    def is_serial(self, path: str) -> bool:
        """Whether an answer repeats what stands there."""
        name = path.removesuffix(SUFFIX)
        return any(each.is_key(name) for each in self._serials)

    def is_own(self, path: str) -> bool:
        """Whether a number there may be somebody's own; none that a farm reads is."""
        last = _last(path)
        if last in _OPEN_NUMBERS or any(e.is_key(path.removesuffix(SUFFIX)) for e in self._known):
            return self.is_result_id(path) or self.is_serial(path)
        return any(_OWN_NAMES.search(part) for part in path.split("."))

    def is_open(self, part: str) -> bool:
        """Whether a part of a path is nobody's name."""
        if part in self._parts or _PLACE.fullmatch(part):
            return True
        found = _PART.fullmatch(part)
        return found is not None and found[1] in self._parts


def _last(path: str) -> str:
    return path.removesuffix(SUFFIX).rpartition(".")[2]


def _alike(value: Any, change: Callable[[str], str]) -> Any:
    """The changed text of an id, of the type that the id had; None where it is no id."""
    try:
        text = change(canonical_id(value))
    except ReadError:
        return None
    return text if isinstance(value, str) or not text.isdigit() else int(text)


def _is_numeric(value: Any) -> bool:
    many = value if isinstance(value, list) else [value]
    return all(each is None or isinstance(each, bool | int | float) for each in many)
