"""The doctor's verdicts, in small real conditions and on figures; MQTT is elsewhere."""

import json
import math
import os
import socket
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from farm.cli import root
from farm.config import Config, Loaded
from farm.doctor import disk, doors, machine, model, state
from farm.doctor.examination import bounded
from farm.doctor.finding import Verdict, ok
from farm.doctor.patient import Patient, admit
from farm.doors.keyring import Keyring
from farm.errors import ModelError
from farm.journal.store import DATABASE_NAME
from farm.simulation.ports import free_port
from farm.state_dir import lock

OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL


def patient(state_dir=Path("/nowhere"), farm_pid=None, **settings):
    config = Config.model_validate({"model": "rule", "state_dir": state_dir} | settings)
    return Patient(Loaded(config, {}, ()), state_dir, farm_pid)


def by_check(findings):
    found = {one.check: one for one in findings}
    assert all(one.cure for one in found.values() if one.verdict is not OK)
    return found


def verdicts(findings):
    return {check: one.verdict for check, one in by_check(findings).items()}


@pytest.fixture
def private(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir(mode=0o700)
    return folder


# ---- the frame -----------------------------------------------------------------------------------


def test_an_examination_that_hangs_is_left_alone():
    # prevents: a doctor that waits for a dead file server, and says nothing of the rest
    let_go = threading.Event()

    def hangs():
        yield ok("x.first", "well")
        let_go.wait(60)

    first, last = bounded("x", hangs, 0.05)
    let_go.set()
    assert (first.check, first.verdict) == ("x.first", OK)
    assert (last.check, last.verdict) == ("x.timeout", FAIL)


@pytest.mark.parametrize("error", [ModelError("no model 9"), ValueError("no model 9")])
def test_an_examination_that_breaks_is_a_finding(error):
    # prevents: a traceback in place of the six other examinations
    def breaks():
        yield ok("x.first", "well")
        raise error

    _, last = bounded("x", breaks, 10)
    assert last.verdict is FAIL
    assert "no model 9" in last.said


def test_only_what_was_asked_for_is_looked_at(private):
    # prevents: --only that looks at the MQTT broker nevertheless
    done = CliRunner().invoke(
        root, ["doctor", "--state-dir", str(private), "--only", "state", "--json"]
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert {one["check"].partition(".")[0] for one in told["findings"]} == {"state"}
    assert told["verdict"] == "ok"


def test_a_table_reads_well_at_any_width(private, monkeypatch):
    # prevents: lines that are cut, or broken where a terminal breaks them
    for columns in (80, 160):
        monkeypatch.setenv("COLUMNS", str(columns))
        done = CliRunner().invoke(
            root, ["doctor", "--state-dir", str(private), "--only", "machine"]
        )
        lines = done.output.splitlines()
        assert max(map(len, lines)) <= columns
        assert lines[0].startswith("ok   machine.clock")
        for line in lines[:-2]:
            assert line[:5].strip() in ("ok", "warn", "fail", "")


# ---- the state directory and its disk ------------------------------------------------------------


def test_modes_of_the_state_directory(private):
    # prevents: sockets that any user of the machine can command the farm by
    for mode, verdict in ((0o700, OK), (0o755, WARN), (0o770, WARN), (0o777, FAIL)):
        private.chmod(mode)
        found = by_check(state.examine(patient(private)))["state.directory"]
        assert found.verdict is verdict, oct(mode)
    assert "chmod 700" in found.cure


def test_a_state_directory_that_is_not_there_is_not_made(tmp_path):
    # prevents: folders that root made, which the farm's user can't write
    found = verdicts(state.examine(patient(tmp_path / "a" / "b")))
    assert found["state.directory"] is OK
    assert not (tmp_path / "a").exists()


def test_a_state_directory_that_we_may_not_write(private, monkeypatch):
    # prevents: "ok" for what the farm's user can't use, and a traceback from the look at its disk
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    found = by_check(state.examine(patient(private)))["state.directory"]
    assert found.verdict is FAIL
    assert "chown" in found.cure
    assert list(disk.examine(patient(private))) == []


def test_a_journal_of_another_user_is_not_opened(private, monkeypatch):
    # prevents: files of root's beside the database, with which its farm can't start any more
    (private / "journal").mkdir()
    (private / "journal" / DATABASE_NAME).write_bytes(b"no database")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    found = by_check(state.examine(patient(private)))
    assert found["state.directory"].verdict is WARN
    assert "state.journal" not in found


def test_a_file_in_place_of_the_state_directory(tmp_path):
    # prevents: "ok" for what no farm can start in
    (tmp_path / "a").write_text("")
    assert verdicts(state.examine(patient(tmp_path / "a")))["state.directory"] is FAIL


def test_a_path_that_is_too_long_for_sockets(tmp_path):
    # prevents: a farm that is fine until it opens its sockets
    found = verdicts(state.examine(patient(tmp_path / ("x" * 120))))
    assert found["state.sockets"] is FAIL


def test_a_farm_that_holds_the_directory_and_does_not_answer(private):
    # prevents: a hung farm that counts as running
    with lock(private):
        who = admit(patient(private).loaded, os.environ)
        assert who.farm_pid == os.getpid()
        found = by_check(state.examine(who))["state.lock"]
    assert found.verdict is WARN
    assert f"pid {os.getpid()}" in found.said
    assert verdicts(state.examine(patient(private)))["state.lock"] is OK


def test_a_journal_that_is_none(private):
    # prevents: a start that refuses to serve after the doctor said that all is well
    (private / "journal").mkdir()
    (private / "journal" / DATABASE_NAME).write_bytes(b"no database at all, and long enough" * 100)
    assert verdicts(state.examine(patient(private)))["state.journal"] is FAIL


def test_the_disk_is_looked_at_and_nothing_stays(private):
    # prevents: probes that fill the disk they look at
    found = by_check(disk.examine(patient(private)))
    assert {"disk.kind", "disk.sqlite", "disk.space", "disk.writing", "disk.sync"} == set(found)
    assert list(private.iterdir()) == []


def test_a_disk_with_too_little_room(private):
    # prevents: a journal that fills the disk within the day
    journal = {"keep_bytes": 10**18, "segment_bytes": 64_000_000}
    assert verdicts(disk.examine(patient(private, journal=journal)))["disk.space"] is WARN
    journal = {"keep_bytes": 10**18, "segment_bytes": 10**17}
    assert verdicts(disk.examine(patient(private, journal=journal)))["disk.space"] is FAIL


def test_a_slow_sync_counts_where_answers_wait_for_it():
    # prevents: durability: power on a disk that can't carry it
    assert disk._judged_sync(0.05, 0.06, "power").verdict is WARN
    assert disk._judged_sync(0.05, 0.06, "process").verdict is OK
    assert disk._judged_sync(0.002, 0.06, "power").verdict is OK
    assert disk._judged_rate(1_000_000).verdict is WARN


# ---- the machine ---------------------------------------------------------------------------------


def test_the_machine_is_looked_at():
    # prevents: an examination that breaks on a machine as it is
    assert {one.check for one in machine.examine(patient())} == {
        *("machine.clock", "machine.synchronised", "machine.cores", "machine.memory"),
        *("machine.open_files", "machine.user"),
    }


ON_RAY = Config.model_validate(
    {
        "workers": {"launch": "ray"},
        "attach": {"listen": "10.0.0.1:7003"},
        "ray": {"key_file": "/etc/farm/ray.key"},
    }
)


@pytest.mark.parametrize(
    ("finding", "verdict"),
    [
        (machine.judge_year(1970), FAIL),
        (machine.judge_year(2030), OK),
        (machine.judge_synchronised(0x0040, 0.0), WARN),
        (machine.judge_synchronised(0x2001, 0.01), OK),
        (machine.judge_synchronised(0x2001, 16.0), WARN),
        (machine.judge_cores(4, workers=4, threads=1), OK),
        (machine.judge_cores(4, workers=5, threads=1), WARN),
        (machine.judge_cores(4, workers=1, threads=8), WARN),
        (machine.judge_memory(Config(), workers=10, available=10**11), OK),
        (machine.judge_memory(Config(), workers=10, available=10**8), WARN),
        (machine.judge_memory(ON_RAY, workers=1000, available=5 * 10**9), OK),
        (machine.judge_files(1024, 4096, workers=10), OK),
        (machine.judge_files(1024, 4096, workers=200), FAIL),
        (machine.judge_files(-1, -1, workers=200), OK),
        (machine.judge_user(0), WARN),
        (machine.judge_user(1000), OK),
    ],
)
def test_figures_of_a_machine(finding, verdict):
    # prevents: verdicts the wrong way round
    assert finding.verdict is verdict
    assert bool(finding.cure) == (verdict is not OK)


# ---- doors and keys ------------------------------------------------------------------------------


def listening(first, state_dir, farm_pid=None):
    return patient(state_dir, farm_pid, attach={"listen": f"127.0.0.1:{first}"})


@pytest.fixture
def first_port():
    """The first of three free ports in a row."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as one:
            first = one.getsockname()[1]
        try:
            for offset in range(3):
                socket.create_server(("127.0.0.1", first + offset)).close()
        except (OSError, OverflowError):
            continue
        return first


def test_no_doors_no_keys(private):
    # prevents: keys that are asked for where nobody may come in
    assert verdicts(doors.examine(patient(private))) == {"doors.listen": OK}


def test_doors_without_a_key(private, first_port):
    # prevents: a farm that refuses to start after the doctor said that all is well
    found = by_check(doors.examine(listening(first_port, private)))
    assert found["doors.keys"].verdict is FAIL
    assert "farm keys new" in found["doors.keys"].cure
    assert not (private / "keys").exists()


def test_doors_with_keys(private, first_port):
    # prevents: an alarm about what is well
    keyring = Keyring(private)
    keyring.farm_key()
    keyring.add("line-7")
    found = by_check(doors.examine(listening(first_port, private)))
    assert {one.verdict for one in found.values()} == {OK}, found
    assert "line-7" in found["doors.keys"].said


def test_keys_that_others_may_read(private, first_port):
    # prevents: keys that anybody on the machine can copy, or add to
    keyring = Keyring(private)
    keyring.farm_key()
    keyring.add("line-7")
    (private / "keys" / "farm.key").chmod(0o644)
    assert verdicts(doors.examine(listening(first_port, private)))["doors.keys"] is FAIL
    (private / "keys" / "farm.key").chmod(0o600)
    (private / "keys" / "workers").chmod(0o777)
    assert verdicts(doors.examine(listening(first_port, private)))["doors.modes"] is FAIL
    (private / "keys" / "workers").chmod(0o755)
    assert verdicts(doors.examine(listening(first_port, private)))["doors.modes"] is WARN


def test_a_port_that_is_taken(private, first_port):
    # prevents: "address in use" at the start, without a word of by whom
    with socket.create_server(("127.0.0.1", first_port + 1)):
        found = by_check(doors.examine(listening(first_port, private)))
        ours = verdicts(doors.examine(listening(first_port, private, os.getpid())))
    assert found[f"doors.port_{first_port}"].verdict is OK
    taken = found[f"doors.port_{first_port + 1}"]
    assert taken.verdict is FAIL
    assert str(os.getpid()) in taken.said
    assert ours[f"doors.port_{first_port + 1}"] is OK


def test_an_address_that_is_not_ours(private):
    # prevents: a door at the address of another machine
    who = patient(private, attach={"listen": "192.0.2.1:7003"})
    found = by_check(doors.examine(who))["doors.port_7003"]
    assert found.verdict is FAIL
    assert "ip addr" in found.cure


# ---- the model -----------------------------------------------------------------------------------


def test_the_rule_answers_the_known_hole():
    # prevents: a sample that our own models don't answer
    found = by_check(model.examine(patient()))
    assert found["model.loading"].verdict is OK
    assert found["model.golden_hole"].verdict is OK, found["model.golden_hole"].said
    assert "model.speed" in found


def test_a_model_that_can_not_be_loaded():
    # prevents: ten workers that end one after the other
    found = by_check(model.examine(patient(model="no_such_module:Model")))
    assert found["model.loading"].verdict is FAIL
    assert "no_such_module" in found["model.loading"].said


def test_fields_of_another_gateway_are_named():
    # prevents: mqtt.data_ids with a typing mistake, found out by the first hole
    who = patient(mqtt={"data_ids": {"position": "Nowhere.Values"}})
    found = by_check(model.examine(who))["model.golden_hole"]
    assert found.verdict is FAIL
    assert "mqtt.data_ids" in found.cure


TRUTH = (5.0, 10.0, 20.0)


@pytest.mark.parametrize(
    ("value", "ours", "own"),
    [
        ([5.1, 10.1, 20.1], OK, OK),
        ([5.1, 10.1, 20.9], FAIL, WARN),
        ([5.1, 10.1, math.nan], FAIL, WARN),
        ([5.1, 20.1], WARN, WARN),
    ],
)
def test_an_answer_is_held_against_the_truth(value, ours, own):
    # prevents: a machine that computes wrongly, and blame for a model made for other holes
    answer = {"status": "ok", "value": {"keypoints_mm": value}, "reason": ""}
    assert model.judge(Config(), answer, TRUTH).verdict is ours
    assert model.judge(Config(model="mine:Model"), answer, TRUTH).verdict is own


def test_no_answer_to_a_good_hole():
    # prevents: a model that says no to everything and is praised for being quick
    answer = {"status": "insufficient", "value": None, "reason": "Air drilling"}
    assert model.judge(Config(), answer, TRUTH).verdict is FAIL
    assert model.judge(Config(model="mine:Model"), answer, TRUTH).verdict is WARN


# ---- monitoring ----------------------------------------------------------------------------------


def test_the_port_of_the_metrics_and_what_is_shown_there(private):
    # prevents: a farm that does not start for its monitoring, and a token that everyone can read
    port = free_port()

    def found(**metrics):
        told = patient(private, metrics={"listen": f"127.0.0.1:{port}"} | metrics)
        return by_check(doors.examine(told))

    well = found()
    assert (well[f"doors.port_{port}"].verdict, well["doors.metrics"].verdict) == (OK, OK)
    with socket.create_server(("127.0.0.1", port)):
        taken = found()[f"doors.port_{port}"]
    assert taken.verdict is FAIL
    assert "metrics.listen" in taken.cure

    token = private / "token"
    assert found(token_file=token)["doors.metrics"].verdict is FAIL
    token.write_text("a-token-of-enough-characters\n")
    token.chmod(0o644)
    readable = found(token_file=token)["doors.metrics"]
    assert (readable.verdict, readable.cure) == (WARN, f"chmod 600 {token}")
    token.chmod(0o600)
    assert found(token_file=token)["doors.metrics"].verdict is OK
    open_to_all = found(token_file=token, listen=f"*:{port}")["doors.metrics"]
    assert open_to_all.verdict is WARN
    assert "plain HTTP" in open_to_all.said
