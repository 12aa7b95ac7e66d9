"""What systemd hears, and when: of a farm, and of a worker."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from farm.config import Config
from farm.supervisor.service import FarmService
from farm.systemd import Service, State, of_environment
from farm.worker.service import WorkerService

CONFIG = Config()


class Listener:
    """Plays systemd; deaf where it takes nothing."""

    def __init__(self):
        self.heard = []
        self.is_deaf = False

    def __call__(self, message):
        if not self.is_deaf:
            self.heard.append(message)
        return not self.is_deaf

    def take(self):
        heard, self.heard = self.heard, []
        return heard


@pytest.fixture
def listener():
    return Listener()


def test_a_start_asks_for_time_until_it_is_up(listener):
    # prevents: a farm that is killed at boot because the MQTT broker comes up two minutes later
    service = Service(listener)
    for now_s in (0.0, 1.0, 4.9, 5.0, 300.0):
        service.tick(now_s, State.STARTING)
    assert listener.take() == ["EXTEND_TIMEOUT_USEC=30000000"] * 3
    service.tick(301.0, State.UP)
    service.tick(400.0, State.UP)
    assert listener.take() == ["READY=1"]


def test_a_reload_and_a_stop_are_told_once(listener):
    # prevents: `systemctl reload` that seems never to end, and a stop that looks like a crash
    service = Service(listener)
    for state in (State.UP, State.RELOADING, State.RELOADING, State.UP, State.STOPPING):
        service.tick(12.5, state)
    assert listener.take() == [
        "READY=1",
        "RELOADING=1\nMONOTONIC_USEC=12500000",
        "READY=1",
        "STOPPING=1",
        "EXTEND_TIMEOUT_USEC=30000000",
    ]


def test_a_stop_asks_for_time_while_it_goes_on():
    # prevents: a drain of ten minutes, as configured, that systemd kills after thirty seconds
    listener = Listener()
    service = Service(listener)
    service.tick(0.0, State.UP)
    for now_s in (1.0, 2.0, 6.0, 600.0):
        service.tick(now_s, State.STOPPING)
    service.tick(700.0, State.STOPPING, is_well=False)  # it hangs: systemd may end it
    assert listener.take() == ["READY=1", "STOPPING=1", *["EXTEND_TIMEOUT_USEC=30000000"] * 3]


def test_what_was_not_taken_is_said_again(listener):
    # prevents: READY that got lost in a full socket, and a unit that never comes up
    service = Service(listener)
    listener.is_deaf = True
    service.tick(0.0, State.UP, status="well")
    listener.is_deaf = False
    service.tick(0.1, State.UP, status="well")
    service.tick(1.5, State.UP, status="well")
    assert listener.take() == ["READY=1", "STATUS=well"]


def test_a_status_is_one_line_told_when_it_has_changed(listener):
    # prevents: a stranger's line break that becomes a message of its own to systemd
    service = Service(listener)
    for now_s, status in ((0.0, "a\nREADY=1"), (0.5, "b"), (1.0, "b"), (2.0, "b")):
        service.tick(now_s, State.STARTING, status=status)
    told = [line for line in listener.take() if not line.startswith("EXTEND")]
    assert told == ["STATUS=a READY=1", "STATUS=b"]


def test_the_watchdog_hears_three_signs_of_life_in_its_time_while_all_is_well(listener):
    # prevents: a farm that is killed though it lives, and one that hangs and is not
    service = Service(listener, watchdog_s=30.0)
    service.tick(0.0, State.UP)
    listener.take()
    for second in range(1, 31):
        service.tick(float(second), State.UP)
    assert listener.take() == ["WATCHDOG=1"] * 3
    for second in range(31, 100):
        service.tick(float(second), State.UP, is_well=False)
    assert listener.take() == []


def test_nobody_is_told_where_nobody_listens():
    # prevents: a cost, or a failure, without systemd
    service = of_environment({})
    assert not service.is_on
    service.tick(0.0, State.UP)
    farm = FarmService(service, 0.0)
    assert not farm.wants_snapshot(1.0)


@pytest.mark.parametrize("is_abstract", [False, True])
def test_the_socket_of_systemd_is_spoken_to_and_no_child_inherits_it(is_abstract):
    # prevents: READY of a worker taken for the farm's, and containers' abstract sockets unheard
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours,
    ):
        path = f"{folder}/notify"
        ours.bind(f"\0{path}" if is_abstract else path)
        ours.settimeout(5)
        environment = {
            "NOTIFY_SOCKET": f"@{path}" if is_abstract else path,
            "WATCHDOG_USEC": "3000000",
            "WATCHDOG_PID": str(os.getpid()),
            "HOME": "/",
        }
        service = of_environment(environment)
        service.tick(0.0, State.UP)
        assert [ours.recv(100), ours.recv(100)] == [b"READY=1", b"WATCHDOG=1"]
        assert environment == {"HOME": "/"}


def test_a_watchdog_of_another_process_is_not_ours(tmp_path):
    # prevents: pings that systemd logs as not permitted
    environment = {"NOTIFY_SOCKET": str(tmp_path / "s"), "WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}
    service = of_environment(environment, is_taken_out=False)
    assert service.is_on
    assert not service._ping_every_s
    assert environment["NOTIFY_SOCKET"]
    service.tick(0.0, State.UP)  # nobody is there: no harm done


# The farm


def shot(mqtt="connected", states=("idle",), problems=()):
    return {
        "state": "HEALTHY",
        "mqtt": {"state": mqtt},
        "workers": [{"state": state} for state in states],
        "throughput": {"arrival_rate": 12.34, "backlog": 3},
        "problems": list(problems),
    }


def farm_tick(farm, now_s, *, workers=2, is_ending=False, is_reloading=False):
    farm.tick(now_s, CONFIG, workers=workers, is_ending=is_ending, is_reloading=is_reloading)


def words(listener):
    return [line for line in listener.take() if not line.startswith(("EXTEND", "STATUS"))]


@pytest.mark.parametrize(
    ("found", "workers", "is_up"),
    [
        (shot(), 2, True),
        (shot(mqtt="connecting"), 2, False),
        (shot(states=("loading",)), 2, False),
        (shot(states=()), 0, True),
        (shot(mqtt="disconnected", states=()), 0, False),
    ],
)
def test_a_farm_is_up_with_mqtt_and_a_worker(listener, found, workers, is_up):
    # prevents: what depends on the farm is started before it can answer
    farm = FarmService(Service(listener), 0.0)
    farm_tick(farm, 0.0, workers=workers)
    farm.heard(found)
    farm_tick(farm, 0.5, workers=workers)
    assert words(listener) == (["READY=1"] if is_up else [])


def test_a_farm_that_was_up_stays_so_while_mqtt_is_away(listener):
    # prevents: RELOADING or a second start for what is an outage of the MQTT broker
    farm = FarmService(Service(listener), 0.0)
    for now_s, found in (
        (1.0, shot()),
        (2.0, shot(mqtt="disconnected", problems=["MQTT is away"])),
    ):
        farm.heard(found)
        farm_tick(farm, now_s)
    heard = listener.take()
    assert heard[0] == "READY=1"
    assert heard[-1] == (
        "STATUS=HEALTHY: MQTT disconnected, 1 workers ready, 12.3 holes/s, 3 wait; MQTT is away"
    )


def test_a_farm_tells_reloads_and_its_end(listener):
    # prevents: the same words for three things
    farm = FarmService(Service(listener), 0.0)
    farm.heard(shot())
    farm_tick(farm, 1.0)
    farm_tick(farm, 2.0, is_reloading=True)
    farm_tick(farm, 3.0)
    farm_tick(farm, 4.0, is_ending=True)
    assert words(listener) == [
        "READY=1",
        "RELOADING=1\nMONOTONIC_USEC=2000000",
        "READY=1",
        "STOPPING=1",
    ]


def test_the_broker_is_asked_often_until_it_is_up_and_seldom_then(listener):
    # prevents: a snapshot, which is not for nothing, in each turn of the loop
    farm = FarmService(Service(listener), 0.0)
    assert [farm.wants_snapshot(s / 10) for s in range(11)].count(True) == 3
    farm.heard(shot())
    farm_tick(farm, 1.0)
    asked = [farm.wants_snapshot(1.5 + s / 10) for s in range(100)]
    assert asked.count(True) == 2


def test_the_watchdog_outlasts_the_replacement_of_a_broker_and_no_more(listener):
    # prevents: a farm that is killed while its broker checks a journal; and one that is helpless
    farm = FarmService(Service(listener, watchdog_s=30.0), 0.0)
    farm.heard(shot())
    farm_tick(farm, 0.0)
    listener.take()
    farm_tick(farm, 150.0)
    assert "WATCHDOG=1" in listener.take()
    farm_tick(farm, 161.0)
    assert "WATCHDOG=1" not in listener.take()
    farm.heard(shot())
    farm_tick(farm, 170.0)
    assert "WATCHDOG=1" in listener.take()


# A worker


def worker_tick(worker, now_s, **changes):
    told = {
        "is_working": True,
        "is_leaving": False,
        "is_loading": False,
        "ready_timeout_s": 60.0,
        "job_id": None,
        "job_timeout_s": 10.0,
    }
    worker.tick(now_s, **(told | changes))


def test_a_worker_is_up_once_it_has_joined(listener):
    # prevents: a unit that is up with a model that can't be loaded
    worker = WorkerService(Service(listener))
    worker_tick(worker, 0.0, is_working=False)
    worker_tick(worker, 1.0)
    worker_tick(worker, 2.0, is_working=False)  # its farm is restarted
    worker_tick(worker, 3.0, is_leaving=True)
    assert words(listener) == ["READY=1", "STOPPING=1"]


def test_a_worker_that_hangs_in_a_hole_is_the_watchdogs(listener):
    # prevents: a worker on another machine, which the farm can't kill, that hangs for ever
    worker = WorkerService(Service(listener, watchdog_s=3.0))
    found = {}
    for second in range(60):
        busy = (
            second % 7 + 1 if second > 3 else None
        )  # one after the other, and then one that hangs
        worker_tick(worker, float(second), job_id=100 if second >= 30 else busy)
        found[second] = "WATCHDOG=1" in listener.take()
    assert all(found[second] for second in range(50))
    assert not any(found[second] for second in range(50, 60))


def test_a_worker_that_hangs_while_it_loads_is_systemds(listener):
    # prevents: a model on a dead network disk, and a unit that is "activating" for ever
    worker = WorkerService(Service(listener, watchdog_s=3.0))
    worker_tick(worker, 0.0, is_working=False)
    worker_tick(worker, 900.0, is_working=False)  # its farm came late: that is no fault of it
    listener.take()
    told = {"is_working": False, "is_loading": True, "ready_timeout_s": 20.0}
    for second in range(1000, 1020):
        worker_tick(worker, float(second), **told)
        assert "WATCHDOG=1" in listener.take()
    for second in range(1020, 1060):
        worker_tick(worker, float(second), **told)
        assert [line for line in listener.take() if not line.startswith("STATUS")] == []
    worker_tick(worker, 1060.0)
    assert listener.take()[0] == "READY=1"


@pytest.mark.parametrize("name", ["farm.service", "farm-worker.service"])
def test_the_units_say_what_the_processes_do(name, tmp_path):
    # prevents: Type=exec with a process that says READY, which systemd does not hear then
    unit = (Path(__file__).parents[2] / "etc" / name).read_text()
    assert "\nType=notify\n" in unit
    assert "\nWatchdogSec=" in unit
    if shutil.which("systemd-analyze") is None:
        return  # where there is no systemd, the lines above have to do
    copy = tmp_path / name.replace("farm-worker", "farm-worker@1")
    copy.write_text(unit.replace("/opt/farm/bin/farm", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert not [line for line in done.stderr.splitlines() if "farm" in line], done.stderr
