"""The rounds of a bench: everybody gets the same model, and nobody always the same turn."""

from __future__ import annotations

import pytest
from test_bench_figures import measured

from farm.simulation.bench import rounds
from farm.simulation.bench.drive import Load
from farm.simulation.bench.forward import Forward
from farm.simulation.bench.rounds import Orders, Rounds

SETTINGS = {
    "model": "",
    "mqtt": {"processing": {"model_id": 1}},
    "workers": {"threads": 2},
    "journal": {"durability": "off"},
}


class Plain:
    """Stands for a process that is told its orders."""

    def __init__(self, name, _module, orders, **_):
        self.name, self.orders = name, orders


@pytest.fixture
def turns(monkeypatch):
    """Who was measured, and with what settings."""
    seen = []

    def plain(contender, _load, _tell):
        seen.append((contender.name, contender.orders.get("settings")))
        return measured(contender.name, 1.0)

    def farm(self, _tell):
        seen.append(("farm", self._orders.settings))
        return measured("farm", 1.0)

    def alone(settings, *_args, **_):
        seen.append(("model alone", settings))
        return Forward(1.0, batch=1, cpu_ms_per_hole=1.0, processes=1)

    monkeypatch.setattr(rounds, "measure", plain)
    monkeypatch.setattr(rounds, "measure_forward", alone)
    monkeypatch.setattr(rounds, "PlainContender", Plain)
    monkeypatch.setattr(Rounds, "_farm", farm)
    monkeypatch.setattr(Rounds, "_all_have_heads", lambda _: True)
    return seen


def run(repeat, **changes):
    orders = Orders(
        load=Load(holes_dir="", tools=1), trace_kb=20, workers=1, settings=SETTINGS,
        engine="auto", repeat=repeat, against=("pool", "plain"), **changes,
    )  # fmt: skip
    done = []
    Rounds(orders, lambda _: None, done).run()
    return done


def test_all_that_have_a_model_have_the_same(turns):
    # prevents: `--set mqtt.processing.model_id=1` for the farm alone, and a ratio of two models
    run(1)
    told = {name: settings for name, settings in turns if name != "bare MQTT"}
    assert told == dict.fromkeys(["farm", "pool", "plain", "model alone"], SETTINGS)


def test_the_order_rotates_and_the_tables_do_not(turns):
    # prevents: one that is always measured first, on a processor that has cooled down
    done = run(6)
    names = [name for name, _ in turns]
    assert names[:5] == ["farm", "pool", "plain", "bare MQTT", "model alone"]
    assert names[5:10] == ["pool", "plain", "bare MQTT", "model alone", "farm"]
    assert {names[at] for at in range(0, 25, 5)} == set(names)
    assert names[25:] == names[:5]
    assert {tuple(one.measured) for one in done} == {("farm", "pool", "plain", "bare MQTT")}
    assert all(one.forward for one in done)
    turns.clear()
    run(2, limits=False)
    assert [name for name, _ in turns] == ["farm", "pool", "plain", "pool", "plain", "farm"]
