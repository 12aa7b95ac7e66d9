"""Dead letters and life stories on a real farm, with the commands that an operator types."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
from rig import (
    KEYPOINTS,
    ODD_MODELS,
    Farm,
    Hole,
    Mosquitto,
    Site,
    Tool,
    assert_error,
    eventually,
    marked_hole,
    run_farm,
    settle,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextlib.contextmanager
def _listening(port: int, topic: str) -> Iterator[list[tuple[str, bytes]]]:
    """What comes on a topic filter meanwhile."""
    heard: list[tuple[str, bytes]] = []
    is_subscribed = threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: heard.append(
        (message.topic, message.payload)
    )
    client.on_subscribe = lambda *_: is_subscribed.set()
    client.connect("127.0.0.1", port)
    client.subscribe(topic, qos=1)
    client.loop_start()
    try:
        assert is_subscribed.wait(5)
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


class Desk:
    """Types commands about one farm."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm

    def type(self, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = run_farm(
            *words,
            *("--config", self._farm.config_file, "--state-dir", self._farm.state_dir),
            environment=self._farm.environment,
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done

    def letters(self) -> list[dict[str, Any]]:
        lines = self.type("dead", "list", "--json").stdout.splitlines()
        return [json.loads(line) for line in lines]

    def why(self, hole: Hole, *, code: int = 0) -> list[dict[str, Any]]:
        shown = self.type("why", hole.source, hole.result_id, "--json", code=code).stdout
        found: list[dict[str, Any]] = json.loads(shown)["holes"]
        return found


def test_dead_letters_are_listed_told_retried_and_dropped(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm], tmp_path: Path
) -> None:
    # prevents: holes that nobody can get back once the model is mended
    sign = tmp_path / "raises"
    sign.touch()
    farm = start_farm(
        mosquitto.port,
        model="odd_models:RaisesWhile",
        environment=ODD_MODELS | {"RAISES_WHILE": str(sign)},
    )
    desk = Desk(farm)
    assert desk.type("dead", "list").stdout == "no dead letters\n"
    tool = Tool()
    good, *bad = tool.drill(), marked_hole(tool), marked_hole(tool), marked_hole(tool)
    for hole in (good, *bad):
        site.send_hole(hole)
    site.wait_answered([good, *bad])
    settle(site, farm)
    for hole in bad:
        assert_error(site, hole, "no feed on this hole")
    eventually(lambda: farm.stats()["dead_letters"] == 3, 5, "three dead letters")

    letters = desk.letters()
    assert [letter["id"] for letter in letters] == [hole.result_id for hole in bad]
    ids = [letter["hole"] for letter in letters]
    shown = desk.type("dead", "list").stdout
    assert all(each in shown for each in ids)
    assert "no feed on this hole" in shown
    out = tmp_path / "out"
    shown = desk.type("dead", "show", ids[0], "--out", out).stdout
    assert "claimed" in shown
    assert (out / "trace.json").read_bytes() in [part.payload for part in bad[0].parts]

    sign.unlink()
    desk.type("dead", "retry", ids[0])
    eventually(lambda: farm.stats()["holes"]["published"] == 2, 10, "the retried hole")
    settle(site, farm)
    first, second = (heard.body for heard in site.answers()[bad[0].key][KEYPOINTS])
    assert "Error" in first
    assert "Error" not in second
    refused = desk.type("dead", "retry", ids[0], code=1)  # it is none any more
    assert "no dead letter" in refused.stderr
    desk.type("dead", "drop", ids[1])
    assert farm.stats()["dead_letters"] == 1
    desk.type("dead", "retry", "--all")
    eventually(lambda: farm.stats()["dead_letters"] == 0, 10, "no dead letters")
    eventually(lambda: farm.stats()["holes"]["published"] == 3, 10, "the last one")
    assert desk.letters() == []
    desk.type("dead", "drop", "8123", code=2)
    desk.type("dead", "retry", code=2)

    former, latter = desk.why(bad[0])
    assert (former["terminal"], former["resolved"]) == ("dead", "retried")
    assert (latter["terminal"], latter["retry_of"]) == ("published", former["hole"])


def test_a_hole_tells_its_story_and_is_computed_again_also_without_a_farm(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a question of the line that can't be answered a day later
    farm = start_farm(mosquitto.port)
    desk = Desk(farm)
    tool = Tool()
    hole, short = tool.drill(), tool.drill()
    site.send_hole(hole)
    site.wait_answered([hole])
    site.send(short.parts[0])
    eventually(lambda: farm.stats()["buffers"]["open_joins"] == 1, 5, "a part that waits")
    for _ in range(2):
        [story] = desk.why(hole)
        assert (story["terminal"], story["status"]) == ("published", "ok")
        [life] = story["lives"]
        names = [event["what"] for event in life["events"]]
        wanted = ["first part", "paired", "dispatched", "claimed", "computed", "answered"]
        assert names == wanted
        times = [event["after_s"] for event in life["events"]]
        assert times == sorted(times)
        assert len(story["messages"]) == len(hole.parts)
        assert len(story["publications"]) == 2
        shown = desk.type("why", hole.source.partition("/")[2], hole.result_id).stdout
        assert "computed" in shown
        rerun = desk.type("rerun", hole.source, hole.result_id).stdout
        assert rerun.rstrip().endswith("the same")
        assert "all whole" in desk.type("journal", "check").stdout
        assert "waits for" in desk.type("why", short.source, short.result_id).stdout
        if farm.process is not None and farm.process.poll() is None:
            farm.process.terminate()
            farm.wait()
    nothing = desk.type("why", hole.source, "999999", code=1)
    assert "never came" in nothing.stderr


def test_a_model_that_answers_otherwise_is_found_out(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a rerun that says "the same" whatever comes out
    farm = start_farm(mosquitto.port, model="odd_models:Moody", environment=ODD_MODELS)
    hole = Tool().drill()
    site.send_hole(hole)
    site.wait_answered([hole])
    settle(site, farm)
    farm.environment["MOOD_MM"] = "1.5"
    shown = Desk(farm).type("rerun", hole.source, hole.result_id, code=1).stdout
    assert "DIFFER" in shown


def test_whoever_listens_at_mqtt_is_told_of_dead_letters(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    farm = start_farm(mosquitto.port, model="odd_models:RaisesOnMarked", environment=ODD_MODELS)
    instance = farm.stats()["instance"]
    with _listening(mosquitto.port, f"farm/{instance}/dead/#") as heard:
        hole = marked_hole(Tool())
        site.send_hole(hole)
        eventually(lambda: len(heard) >= 2, 10, "a notice and a count")
        eventually(lambda: heard[-1][1] == b"1", 5, lambda: f"the count of one: {heard}")
    told = {topic: json.loads(payload) for topic, payload in heard}
    notice = told[f"farm/{instance}/dead"]
    assert (notice["source"], notice["id"], notice["terminal"]) == (
        hole.source,
        hole.result_id,
        "dead",
    )
    assert told[f"farm/{instance}/dead/count"] == 1
    [letter] = Desk(farm).letters()
    assert letter["hole"] == notice["hole"]
    assert notice["hole"] in notice["cure"]
