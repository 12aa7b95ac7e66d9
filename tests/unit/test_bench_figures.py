"""What the rounds of a bench say together: medians, ratios, costs, and what was lost."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from farm.simulation.bench.drive import Driven, Load
from farm.simulation.bench.figures import summarise
from farm.simulation.bench.forward import Forward
from farm.simulation.bench.meter import Measured
from farm.simulation.bench.replacing import Replacing
from farm.simulation.bench.report import as_json, problems, render, title
from farm.simulation.bench.rounds import NULL_MODEL, Orders, Round

DRIVEN = Driven(
    holes=1000,
    answered=1000,
    unanswered=0,
    repeated=0,
    examples=[],
    errors={},
    strangers=0,
    span=(10.0, 20.0),
    done=800,
    rate_hz=80.0,
    timeline=[80.0] * 40,
    delays_ms=[float(n) for n in range(1, 1001)],
    cpu_s=0.08,
    max_late_ms=0.0,
    messages=3000,
    acknowledged=3000,
    bytes_per_hole=25_000,
)
STAGES = {
    "intake": {"count": 5, "mean_s": 0.001, "p50_s": 0.001, "p99_s": 0.002, "max_s": 0.003},
    "inference": {"count": 0, "mean_s": None, "p50_s": None, "p99_s": None, "max_s": None},
}
CPU_S = {"mosquitto": 0.16, "supervisor": 0.08, "broker": 0.8, "workers": 2.4, "generator": 0.08}
MEMORY = {"supervisor": (1, 40), "broker": (1, 60), "workers": (2, 100), "mosquitto": (1, 5)}
JOURNAL = {"journal": {"durability": "process"}}
ORDERS = Orders(
    load=Load(holes_dir="", tools=20),
    trace_kb=20,
    workers=2,
    settings={"model": "", **JOURNAL},
    engine="auto",
)


def measured(name: str, rate_hz: float, driven: Driven = DRIVEN) -> Measured:
    return Measured(
        name=name,
        driven=replace(driven, rate_hz=rate_hz),
        ready_s=3.0,
        cpu_s=CPU_S if name == "farm" else {"mosquitto": 0.1, "main": 1.6, "generator": 0.1},
        memory=MEMORY if name == "farm" else {"main": (1, 30), "mosquitto": (1, 5)},
        peak_backlog=7,
        snapshot={"latency": STAGES} if name == "farm" else {},
    )


def one_round(farm_hz: float, pool_hz: float, forward_hz: float) -> Round:
    return Round(
        {"farm": measured("farm", farm_hz), "pool": measured("pool", pool_hz)},
        Forward(forward_hz, batch=8, cpu_ms_per_hole=2.0, processes=2, trials_hz={8: forward_hz}),
    )


def test_ratios_are_of_the_same_round_and_then_the_median():
    # prevents: the median of one round divided by that of another, when the machine's pace changes
    rounds = [one_round(100, 50, 200), one_round(50, 10, 100), one_round(300, 100, 500)]
    found = summarise(rounds, is_null=False)
    assert found.farm.rate_hz == 100
    assert found.farm.rates_hz == [100, 50, 300]
    assert found.figures["pool"].rate_hz == 50
    assert found.ratios == {"pool": 3.0, "forward": 0.5}
    assert found.forward_hz == 200


def test_ratios_by_cpu_time_count_all_that_a_hole_costs():
    found = summarise([one_round(100, 50, 200)], is_null=False)
    # farm 4.4 ms with mosquitto and generator, pool 2.25 ms, the model alone 2 ms
    assert found.cpu_ratios == {
        "pool": pytest.approx(2.25 / 4.4), "forward": pytest.approx(2.0 / 4.4)
    }  # fmt: skip


def test_a_contender_that_answered_nothing_makes_no_ratio():
    found = summarise([one_round(100, 0, 200)], is_null=False)
    assert found.ratios == {"forward": 0.5}


def test_cpu_time_of_a_hole_is_over_the_measured_holes_and_parted_by_who_uses_it():
    found = summarise([one_round(100, 50, 200)], is_null=False)
    cpu_ms = found.farm.cpu_ms
    assert {kind: pytest.approx(ms) for kind, ms in cpu_ms.items()} == {
        "mosquitto": 0.2, "supervisor": 0.1, "broker": 1.0, "workers": 3.0, "generator": 0.1
    }  # fmt: skip
    assert found.farm.own_cpu_ms == pytest.approx(4.1)  # without mosquitto and the generator
    assert found.outside_ms == pytest.approx(2.1)  # and without the model's 2 ms
    assert found.farm.own_bytes == 200
    assert found.figures["pool"].own_cpu_ms == pytest.approx(2.0)


def test_what_is_not_measured_is_not_made_up():
    lone = [Round({"farm": measured("farm", 100)})]
    found = summarise(lone, is_null=False)
    assert (found.outside_ms, found.forward_hz, found.ratios) == (None, None, {})
    # … but a model that does nothing is known to take nothing
    assert summarise(lone, is_null=True).outside_ms == pytest.approx(4.1)
    # a snapshot without quantiles, or of a farm that knows no p99.9 yet
    stages = found.farm.stages_ms
    assert list(stages) == ["intake", "inference"]
    assert stages["intake"]["p50"] == pytest.approx(1.0)
    assert stages["intake"]["p999"] is None
    assert set(stages["inference"].values()) == {None}


def test_the_latency_is_the_median_of_the_rounds_percentiles():
    slow = replace(DRIVEN, delays_ms=[2 * ms for ms in DRIVEN.delays_ms])
    rounds = [Round({"farm": measured("farm", 1, each)}) for each in (DRIVEN, slow, slow)]
    latency_ms = summarise(rounds, is_null=False).farm.latency_ms
    assert latency_ms == {"p50": 1000, "p99": 1980, "p999": 1998, "max": 2000}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answered": 999, "unanswered": 1, "examples": ["box/tool/17"]}, "1 of 2000 holes with"),
        ({"repeated": 2, "examples": ["box/tool/18"]}, "2 answered twice"),
        ({"acknowledged": 2999}, "1 messages that the MQTT broker did not take"),
    ],
)
def test_a_hole_lost_or_answered_twice_in_any_round_is_told(change, words):
    # prevents: the first round hidden behind a good last one
    bad = replace(DRIVEN, **change)
    rounds = [Round({"farm": measured("farm", 9, each)}) for each in (bad, DRIVEN)]
    found = summarise(rounds, is_null=False)
    [line] = problems(found)
    assert words in line
    assert all(key in line for key in bad.examples)
    assert not as_json(found, ORDERS, rounds, 2)["good"]


ODD = {"model refused": 1000}


def test_errors_that_the_model_alone_does_not_make_are_told():
    # prevents: a farm that answers every hole with an error, and is called fast and good
    def bench(forward: Forward | None, *, pool: dict[str, int], farm: dict[str, int]):
        both = {
            name: measured(name, 9, replace(DRIVEN, errors=errors))
            for name, errors in (("farm", farm), ("pool", pool))
        }
        rounds = [Round(both, forward)]
        found = summarise(rounds, is_null=False)
        return list(problems(found)), as_json(found, ORDERS, rounds, 2)["good"]

    alone = Forward(9.0, batch=8, cpu_ms_per_hole=2.0, processes=2, refused=0.0)
    [line], good = bench(alone, pool={}, farm=ODD)
    assert line.startswith("farm: 100.0% of the answers are errors where 0.0% are expected: 1000: ")
    assert not good
    assert not bench(None, pool={}, farm={"late": 100})[1], "beside the pool"
    assert bench(None, pool={"model refused": 250}, farm={"model refused": 260}) == ([], True)
    refusing = replace(alone, refused=0.25)
    assert bench(refusing, pool={"x": 240}, farm={"x": 260}) == ([], True)
    assert len(bench(refusing, pool={}, farm={"x": 260})[0]) == 1, "of the pool as well"
    assert len(bench(replace(alone, refused=1.0), pool=ODD, farm=ODD)[0]) == 0


def test_nothing_but_errors_is_told_where_nothing_is_known():
    lone = [Round({"farm": measured("farm", 9, replace(DRIVEN, errors=ODD))})]
    [line] = problems(summarise(lone, is_null=False))
    assert line == "farm: 100.0% of the answers are errors: 1000: 1000 x model refused"
    few = [Round({"farm": measured("farm", 9, replace(DRIVEN, errors={"x": 900}))})]
    assert not list(problems(summarise(few, is_null=False)))
    assert list(problems(summarise(few, is_null=True))), "a model that does nothing refuses nothing"


def test_a_bench_in_which_nothing_was_published_is_no_good_one():
    nothing = replace(DRIVEN, holes=0, answered=0, done=0, delays_ms=[])
    found = summarise([Round({"farm": measured("farm", 0, nothing)})], is_null=False)
    assert not found.farm.good
    assert set(found.farm.latency_ms.values()) == {None}


def test_what_is_lost_while_workers_are_killed_is_told_too():
    round_ = Round({"farm": measured("farm", 9)})
    lost = replace(DRIVEN, answered=998, unanswered=2)
    round_.measured["farm"].replacing = Replacing([0.04, 0.06, 0.05], lost)
    found = summarise([round_], is_null=False)
    assert found.farm.replaced_ms == pytest.approx([40.0, 60.0, 50.0])
    assert (found.farm.holes, found.farm.unanswered) == (2000, 2)
    assert list(problems(found))


def test_a_good_bench_has_no_complaints_and_its_json_is_json():
    rounds = [one_round(100, 50, 200), one_round(50, 10, 100)]
    found = summarise(rounds, is_null=False)
    assert list(problems(found)) == []
    told = json.loads(json.dumps(as_json(found, ORDERS, rounds, 2)))
    assert told["good"] is True
    assert told["farm"]["memory"]["workers"] == {"processes": 2, "pss_bytes": 100}
    assert told["beside"]["pool"]["holes"] == 2000
    assert told["forward"]["batch"] == 8
    assert told["settings"]["cores"] == 2
    assert told["settings"]["farm"]["journal"] == {"durability": "process"}
    assert told["rounds"][1] == {"farm": 50, "pool": 10, "forward": 100}


def test_the_tables_fit_80_columns_and_tell_the_ratios():
    rounds = [one_round(100, 50, 200)]
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(render(summarise(rounds, is_null=False)))
    text = console.export_text()
    assert "…" not in text
    assert "pool, dicts" in text
    assert "2.00" in text
    assert "model alone" in text
    assert "intake" in text
    assert "farm without the model" in text


def test_a_machine_that_was_busy_with_something_else_is_told():
    # prevents: figures taken beside a compilation for those of the farm
    rounds = [one_round(100, 50, 200), one_round(100, 50, 200)]
    rounds[0].measured["pool"].foreign_cores = 0.7
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(render(summarise(rounds, is_null=False)))
    assert "up to 0.7 cores busy" in console.export_text()


def test_the_title_says_what_was_measured():
    closed = title(ORDERS, 2)
    assert "64 holes in flight" in closed
    assert "traces of 20 kB" in closed
    open_ = replace(ORDERS, repeat=3, load=Load(holes_dir="samples", tools=1, rate_hz=50.0))
    assert "50 holes/s" in title(open_, 2)
    assert "3 rounds" in title(open_, 2)
    assert "holes of samples" in title(open_, 2)
    settings = {"model": "", "model_settings": {"runtime": "int8"}, **JOURNAL}
    assert "the built-in model (int8)" in title(replace(ORDERS, settings=settings), 2)
    null = replace(ORDERS, settings={"model": NULL_MODEL, **JOURNAL})
    assert null.is_null
    assert "does nothing" in title(null, 2)
