"""The plain design that `farm bench --against` measures: paho, a dict, and a process pool.

    python -m farm.simulation.pool_design

What one writes in an afternoon, with care: `on_message` joins the parts by tool and id, a
`ProcessPoolExecutor` whose workers hold the model computes, and a callback publishes. It journals
nothing, bounds nothing and forgives nothing: what is under way when a process ends is lost. As
`pool` the messages are parsed where they arrive and go to the workers as dicts, as `raw` they go as
bytes and are parsed in the worker. As `plain` there is no pool: `on_message` computes, in the one
process that there is, and nothing is sooner done.
"""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import time
from collections import defaultdict
from concurrent.futures import Executor, Future, ProcessPoolExecutor, wait
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from farm.adapter import load_adapter
from farm.config import Config
from farm.drilling.hole import Hole, Step
from farm.errors import FarmError
from farm.models.model import Insufficient
from farm.models.registry import load_model
from farm.simulation.bench.child import Parent, as_child
from farm.simulation.gateway import HEADS, RESULT, ROOT, TRACE
from farm.simulation.listener import AnswerTopics
from farm.supervisor.parent import die_with_parent
from farm.worker.equipment import limit_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from farm.adapter import Adapter
    from farm.models.model import Model

QOS: Final = 1
READY_TIMEOUT_S: Final = 240.0  # less than the bench waits for all of it
WARM_S: Final = 0.02
TOPICS: Final = AnswerTopics()
_ID: Final = re.compile(
    rb'(?:\.ResultMetaData\.ResultId|PositionTrace\.StepResultId|\.LifeTimeCycleCounter)"\s*:\s*'
    rb'\{[^{}]*?"Value"\s*:\s*"?([^",}]+)'
)
_ID_PATHS: Final = {
    RESULT: "Results.0.ResultMetaData.ResultId",
    TRACE: "Results.0.ResultContent.Trace.StepTraces.PositionTrace.StepResultId",
    HEADS: "Assets.Heads.0.LifetimeCounters.0.LifeTimeCycleCounter",
}
_STEPS: Final = "Results.0.ResultContent.StepResults.0.StepResultValues"
_TRACES: Final = "Results.0.ResultContent.Trace.StepTraces"

Outcome = tuple[dict[str, Any], list[float] | str, str]  # provenance, keypoints or why not, version


class Mode(Enum):
    """What the pool's workers are given."""

    DICTS = "pool"
    RAW = "raw"
    PLAIN = "plain"  # there are none: the main process computes


# ---- in the workers -------------------------------------------------------------------------

_model: Model
_adapter: Adapter


def load(settings: Mapping[str, Any], parent_pid: int) -> None:
    """Load the model, once in each worker."""
    die_with_parent(parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hold(settings)


def hold(settings: Mapping[str, Any]) -> None:
    """Load the model into this process."""
    global _model, _adapter  # noqa: PLW0603 - how a pool's worker keeps what its initializer made
    config = Config.model_validate(settings)
    limit_threads(config.workers.threads)
    processing = config.mqtt.processing
    _model = load_model(
        config.model, processing.model_id, config.model_settings, processing.models_dir
    )
    _adapter = load_adapter(config)
    _model.warm_up()


def warm() -> int:
    """Keep a worker that has started for a moment, so that the others get the next ones."""
    time.sleep(WARM_S)
    return os.getpid()


def compute_raw(parts: dict[str, bytes]) -> Outcome:
    """Answer a hole given as it came."""
    kinds = {"result": parts[RESULT], "trace": parts[TRACE]}
    if HEADS in parts:
        kinds["heads"] = parts[HEADS]
    return (dict(_adapter.describe(kinds)), *_answer(_adapter.read(kinds)))


def compute_dicts(parts: dict[str, dict[str, Any]]) -> Outcome:
    """Answer a hole given as parsed messages."""
    result, trace = parts[RESULT], parts[TRACE]
    told = {
        "SourceTimestamp": next(iter(result.values()))["SourceTimestamp"],
        "MachineId": str(result["Results.0.ResultMetaData.SerialNumber"]["Value"]),
    }
    if HEADS in parts:
        head = parts[HEADS]["Assets.Heads.0.Identification.SerialNumber"]
        told["HeadId"] = str(head["Value"])
    return (told, *_answer(hole_of(result, trace)))


def hole_of(result: Mapping[str, Any], trace: Mapping[str, Any]) -> Hole:
    """The hole in two parsed messages, by the paths of `fields_of`."""

    def column(name: str) -> Any:
        return np.array(trace[f"{_TRACES}.{name}.StepTraceContent[0].Values"]["Value"], np.float32)

    def by_step(name: str) -> list[Any]:
        value = result[f"{_STEPS}.{name}"]["Value"]
        return value if isinstance(value, list) else [value]

    names = ("StepNumber", "StopCode", "Duration", "IntensityTorqueEmpty", "IntensityThrustEmpty")
    steps = tuple(
        Step(number, code, *(math.nan if value is None else float(value) for value in values))
        for number, code, *values in zip(*map(by_step, names), strict=True)
    )
    return Hole(
        position_mm=np.abs(column("PositionTrace")),
        torque_a=column("IntensityTorqueTrace"),
        thrust_a=column("IntensityThrustTrace"),
        step_number=column("StepNumberTrace").astype(np.int16),
        steps=steps,
        sample_rate_hz=float(trace[f"{_TRACES}.PositionTrace.SamplingInterval"]["Value"]),
    )


def _answer(hole: Any) -> tuple[list[float] | str, str]:
    [answer] = _model.infer([hole])
    if isinstance(answer, Insufficient):
        return answer.reason, _model.version
    return list(answer["keypoints_mm"]), _model.version


# ---- in the main process --------------------------------------------------------------------


def fields_of(payload: bytes) -> dict[str, Any]:
    """The fields of a message by their paths behind the tool's name."""
    found = orjson.loads(payload)["Messages"]["Payload"]
    return {
        key.partition("Management.")[2].removesuffix(".MeasuredValue"): entry
        for key, entry in found.items()
    }


class Inline(Executor):
    """Calls at once, where it is."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is done."""
        future: Future[Any] = Future()
        future.set_result(function(*args, **kwargs))
        return future


class PoolDesign:
    """The main process.

    Args:
        mode: what the workers are given.
        pool: of the workers, or what stands for it.
        kinds: the topics after the tool of which a hole needs one message each.
        protocol: of MQTT.
    """

    def __init__(self, mode: Mode, pool: Executor, kinds: Sequence[str], protocol: str) -> None:
        self._mode = mode
        self._pool = pool
        self._kinds = kinds
        self._waiting: defaultdict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
        version = MQTTProtocolVersion.MQTTv311 if protocol == "3.1.1" else None
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2, protocol=version or MQTTProtocolVersion.MQTTv5
        )
        client.max_inflight_messages_set(0)
        client.on_socket_open = _no_delay
        client.on_message = self._received

    def run(self, host: str, port: int, on_ready: Callable[[], None]) -> None:
        """Serve until the connection is lost for good.

        Args:
            host: of the MQTT broker.
            port: of the MQTT broker.
            on_ready: called once we are subscribed.
        """
        self._client.on_connect = lambda client, *_: client.subscribe(
            [(f"{ROOT}/+/+/{kind}", QOS) for kind in self._kinds]
        )
        self._client.on_subscribe = lambda *_: on_ready()
        self._client.connect(host, port)
        self._client.loop_forever()

    def _received(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        _, toolbox, tool, kind = message.topic.split("/", 3)
        source = f"{toolbox}/{tool}"
        if self._mode is Mode.DICTS:
            part: Any = fields_of(bytes(message.payload))
            part_id = str(part[_ID_PATHS[kind]]["Value"])
        else:
            part = message.payload
            found = _ID.search(part)
            if found is None:
                return
            part_id = found.group(1).decode()
        parts = self._waiting[source, part_id]
        parts[kind] = part
        if len(parts) < len(self._kinds):
            return
        del self._waiting[source, part_id]
        compute = compute_dicts if self._mode is Mode.DICTS else compute_raw
        future: Future[Outcome] = self._pool.submit(compute, parts)
        future.add_done_callback(lambda done: self._publish(source, part_id, done))

    def _publish(self, source: str, part_id: str, done: Future[Outcome]) -> None:
        told, value, version = done.result()
        body = {**told, "ResultId": part_id, "Value": value, "AlgoVersion": version}
        depths: Any = value
        if isinstance(value, str):
            body["Error"] = True
        else:
            depths = [deeper - upper for upper, deeper in pairwise(value)]
        for tail, shown in ((TOPICS.keypoints, value), (TOPICS.depth, depths)):
            payload = orjson.dumps({**body, "Value": shown})
            self._client.publish(f"{ROOT}/{source}/{tail}", payload, QOS)


def _no_delay(_client: paho.Client, _userdata: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _pool(mode: Mode, workers: int, settings: Mapping[str, Any]) -> Executor:
    """What computes, once it has the model."""
    if mode is Mode.PLAIN:
        hold(settings)
        return Inline()
    pool = ProcessPoolExecutor(workers, initializer=load, initargs=(settings, os.getpid()))
    await_all(pool, workers)
    return pool


def await_all(pool: Executor, workers: int, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Wait until every worker has the model: the first would do all that is asked for by itself.

    Raises:
        FarmError: they did not all come up in time.
    """
    ends_s = time.monotonic() + timeout_s
    pids: set[int] = set()
    while len(pids) < workers:
        asked = [pool.submit(warm) for _ in range(workers)]
        left_s = max(0.0, ends_s - time.monotonic())
        done, waiting = wait(asked, left_s)
        pids.update(future.result() for future in done)
        if len(pids) < workers and (waiting or time.monotonic() >= ends_s):
            raise FarmError(
                f"{len(pids)} of {workers} workers of the pool were up in {timeout_s:g} s"
            )


def serve(parent: Parent) -> None:
    """Start what computes, wait until it has the model, and serve."""
    orders = parent.orders
    kinds = (RESULT, TRACE, HEADS) if orders["heads"] else (RESULT, TRACE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    where, mode = orders["address"], Mode(orders["mode"])
    with _pool(mode, orders["workers"], orders["settings"]) as pool:
        design = PoolDesign(mode, pool, kinds, where["protocol"])
        design.run(where["host"], where["port"], lambda: parent.say("ready"))


if __name__ == "__main__":
    as_child(serve)
