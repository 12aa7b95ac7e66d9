"""Who of a farm's processes is stuck: histories without any process. Times are seconds."""

from __future__ import annotations

from farm.config import Config
from farm.supervisor.pool import Pool
from farm.supervisor.restart import RestartPolicy
from farm.supervisor.watch import BROKER_START_S, SILENCE_S, Watch

CONFIG = Config.model_validate(
    {
        "workers": {"ready_timeout_s": 30, "heartbeat_timeout_s": 5},
        "supervisor": {"broker_timeout_s": 10},
    }
)
BROKER, FIRST, SECOND = 10, 11, 12


def make_pool(names: list[str], ready_timeout_s: float) -> Pool:
    def policy() -> RestartPolicy:
        return RestartPolicy(initial_s=0.2, max_s=5.0, budget=100, window_s=60.0)

    return Pool(names, policy, ready_timeout_s=ready_timeout_s)


class Farm:
    """A broker and two workers that were started at 0, looked at every half second."""

    def __init__(self) -> None:
        self.workers = make_pool(["1", "2"], CONFIG.workers.ready_timeout_s)
        self.broker = make_pool(["broker"], CONFIG.supervisor.broker_timeout_s)
        fleet = make_pool([], 5.0)
        self.watch = Watch(workers=self.workers, broker=self.broker, fleet=fleet, now_s=0.0)
        for pool, pids in ((self.broker, (BROKER,)), (self.workers, (FIRST, SECOND))):
            for slot, pid in zip(pool.due(0.0), pids, strict=True):
                pool.started(slot, pid, 0.0)
        self.watch.broker_started(0.0)
        self.now_s = 0.0

    def pass_time(self, until_s: float, *, replies: bool, ready: tuple[int, ...] = ()) -> list[str]:
        """Why somebody is to be killed, on the way there."""
        said = []
        while self.now_s < until_s:
            self.now_s += SILENCE_S / 4
            found = []
            if replies:
                self.watch.broker_replied(self.now_s)
                self.watch.ordered(list(ready), self.now_s)
                found += self.watch.strangers(self.now_s, CONFIG)
            found += self.watch.stuck(self.now_s, CONFIG)
            for pid, why in found:
                if self.workers.condemn(pid) or self.broker.condemn(pid):
                    said.append(why)
        return said


def test_a_worker_that_does_not_come_up_in_time_is_told_with_the_knob() -> None:
    """A slot that is held for ever by a process that loads and loads."""
    farm = Farm()
    assert farm.pass_time(30.0, replies=True, ready=(FIRST,)) == []
    assert farm.pass_time(31.0, replies=True, ready=(FIRST,)) == [
        "worker 2 not READY in 30 s: raise workers.ready_timeout_s or read its log lines"
    ]


def test_a_broker_has_longer_for_its_first_answer_than_for_any_other() -> None:
    """A broker that is killed while it looks through its journal; one that hangs and lives on."""
    farm = Farm()
    said = farm.pass_time(BROKER_START_S, replies=False)
    assert not any("broker" in why for why in said)
    assert farm.pass_time(BROKER_START_S + 1.0, replies=False) == [
        f"the broker did not answer for {BROKER_START_S:g} s"
    ]
    farm = Farm()
    farm.pass_time(5.0, replies=True, ready=(FIRST, SECOND))
    assert farm.pass_time(15.0, replies=False) == []
    assert farm.pass_time(16.0, replies=False) == ["the broker did not answer for 10 s"]


def test_the_supervisors_own_absence_is_no_silence_of_the_broker() -> None:
    """A machine that was suspended, and has its broker killed when it wakes up."""
    farm = Farm()
    farm.pass_time(5.0, replies=True, ready=(FIRST, SECOND))
    farm.now_s = 5000.0
    assert farm.pass_time(5001.0, replies=False) == []


def test_a_worker_that_a_new_broker_never_heard_of_is_stuck() -> None:
    """A worker that was stopped while the broker was replaced: nobody else notices its silence."""
    farm = Farm()
    farm.pass_time(5.0, replies=True, ready=(FIRST, SECOND))
    farm.pass_time(9.0, replies=False)  # another one comes up
    assert farm.pass_time(19.0, replies=True, ready=(FIRST,)) == []
    assert farm.pass_time(20.0, replies=True, ready=(FIRST,)) == [
        "worker 2 has not joined the new broker in 10 s"
    ]
