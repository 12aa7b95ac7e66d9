"""A real Prometheus beside a real farm: what it scrapes, its rules, what the dashboard asks it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest
import yaml
from alerts import CASES
from prometheus import ETC, Prometheus, fetch, rules_of
from rig import (
    REPOSITORY,
    Farm,
    Mosquitto,
    Site,
    Tool,
    eventually,
    run_farm,
    tools_of_all_styles,
)
from structlog.testing import capture_logs

from farm import wire
from farm.config.metrics import MetricsConfig
from farm.control import ask
from farm.errors import ConfigError, ExitCode
from farm.metrics.server import MetricsServer, Page
from farm.simulation.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.integration

RATE_S = 5  # stands for the dashboard's $__rate_interval
RATE_HZ = 10
IN_TIME_S = 40  # each takes a few seconds where the machine has time
TOKEN = "a-token-of-enough-characters"
# These say something of the machine that the test runs on.
OF_THE_MACHINE = {
    *("FarmSlowAnswers", "FarmSlowCommits", "FarmLoopStalls", "FarmFallingBehind"),
    *("FarmBacklog", "FarmUnconfirmed", "FarmDiskNearlyFull", "FarmJournalOutgrowsDisk"),
}


def sides(expression: str) -> list[str]:
    """What an alert compares, without the comparisons: they say nothing while all is well."""
    found, depth, start = [], 0, 0
    for match in re.finditer(r"[(){}]| (?:==|!=|<=|>=|<|>|and|or|unless) ", expression):
        word = match[0]
        if word in "({":
            depth += 1
        elif word in ")}":
            depth -= 1
        elif not depth:
            found.append(expression[start : match.start()])
            start = match.end()
    return [side.strip() for side in (*found, expression[start:])]


def panel_expressions() -> dict[str, str]:
    """What the dashboard asks, by where."""
    dashboard = json.loads((ETC / "grafana" / "farm.json").read_text())
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }
    for each in dashboard["annotations"]["list"]:
        found[f"annotation {each['name']}"] = sides(each["expr"])[0]
    return {
        where: text.replace("$__rate_interval", f"{RATE_S}s").replace("$instance", ".+")
        for where, text in found.items()
    }


# ---- the rules, with promtool --------------------------------------------------------------------


def promtool(*arguments: object, given: str | None = None) -> str:
    done = subprocess.run(
        ["promtool", *map(str, arguments)],
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_is_content_with_what_is_shipped(has_prometheus: None) -> None:
    """Prevents: a file that Prometheus refuses, in the night in which it is first needed."""
    assert "SUCCESS" in promtool("check", "config", ETC / "prometheus.yml")
    assert f"{len(CASES)} rules found" in promtool("check", "rules", ETC / "alerts.yml")


def test_each_alert_fires_when_it_should_and_keeps_quiet_else(
    tmp_path: Path, has_prometheus: None
) -> None:
    """Prevents: an alert that never fires, and one that wakes people for nothing."""
    rules = rules_of(yaml.safe_load((ETC / "alerts.yml").read_text()))
    assert sorted(rule["alert"] for rule in rules) == sorted(case.alert for case in CASES)
    series, asked = [], []
    for case in CASES:
        # each is an instance of its own beside all others: so no rule may mix them up
        for number, given in enumerate((case.fires, *case.quiet)):
            instance = f"{case.alert}-{'quiet' if number else 'fires'}-{number}"
            series += [
                {"series": series_of(name, instance), "values": values}
                for name, values in given.items()
            ]
            told = f'alertname="{case.alert}", instance="{instance}", alertstate="firing"'
            asked.append(
                {
                    "expr": f"count(ALERTS{{{told}}})",
                    "eval_time": case.after,
                    "exp_samples": [] if number else [{"labels": "{}", "value": 1}],
                }
            )
    test = {"interval": "1m", "input_series": series, "promql_expr_test": asked}
    shutil.copy(ETC / "alerts.yml", tmp_path)
    content = {"rule_files": ["alerts.yml"], "evaluation_interval": "15s", "tests": [test]}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(content))
    promtool("test", "rules", tmp_path / "tests.yml")


def series_of(name: str, instance: str) -> str:
    metric, brace, labels = name.partition("{")
    target = f'job="farm", instance="{instance}"'
    return f"{metric}{{{target}, {labels}" if brace else f"{metric}{{{target}}}"


def test_each_alert_says_what_to_do_and_the_page_too() -> None:
    """Prevents: somebody woken at three o'clock by a name and a number."""
    page = (REPOSITORY / "docs" / "metrics.md").read_text()
    for rule in rules_of(yaml.safe_load((ETC / "alerts.yml").read_text())):
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"summary", "description"}
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"]
        assert f"### {rule['alert']}\n" in page, rule["alert"]


# ---- alive ---------------------------------------------------------------------------------------


class Drilling:
    """Holes at a steady rate, while a test looks on."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._tools = tools_of_all_styles()
        self._count = 0
        self._began_s = time.monotonic()

    def go_on(self) -> None:
        """Send what is due by now."""
        while self._count < (time.monotonic() - self._began_s) * RATE_HZ:
            self._site.send_hole(self._tools[self._count % len(self._tools)].drill())
            self._count += 1


def test_rules_and_panels_see_a_farm_at_work_and_what_goes_wrong_with_it(
    mosquitto: Mosquitto,
    site: Site,
    start_farm: Callable[..., Farm],
    start_prometheus: Callable[..., Prometheus],
) -> None:
    """Prevents: a dashboard of empty panels, and alerts about metrics that there are none of."""
    port = free_port()
    target = f"127.0.0.1:{port}"
    farm = start_farm(
        mosquitto.port, workers=2, metrics={"listen": target}, mqtt={"listener": {"time_window": 1}}
    )
    prometheus = start_prometheus(target)
    drilling = Drilling(site)
    eventually(prometheus.is_up, IN_TIME_S, "Prometheus scrapes the farm")

    asked = panel_expressions()
    for rule in rules_of(yaml.safe_load((ETC / "alerts.yml").read_text())):
        for number, side in enumerate(sides(rule["expr"])):
            asked[f"{rule['alert']} side {number + 1}"] = side

    def have_data() -> bool:
        drilling.go_on()
        for where, expression in list(asked.items()):
            if not all(math.isnan(value) for value in prometheus.values(expression)):
                del asked[where]
        return not asked

    eventually(have_data, IN_TIME_S, lambda: f"all have data; these have none: {asked}")
    assert prometheus.firing() <= OF_THE_MACHINE, "a farm that is well alarms"
    assert (fetch(port, "/healthz"), fetch(port, "/readyz")) == ((200, "ok\n"), (200, "ready\n"))
    promtool("check", "metrics", given=fetch(port, "/metrics")[1])

    def fires(*names: str) -> None:
        wanted = set(names)
        eventually(lambda: wanted <= prometheus.firing(), IN_TIME_S, f"{names} fire")

    lonely = Tool().drill()
    site.send(lonely.part("result"))  # its trace never comes
    order(farm, wire.Scale(0))
    fires("FarmDeadLetters", "FarmNoWorker")
    assert fetch(port, "/readyz") == (503, "no worker is READY\n")
    assert fetch(port, "/healthz")[0] == 200
    order(farm, wire.Scale(2))
    mosquitto.stop()
    fires("FarmMqttDown")
    assert "MQTT is not connected" in fetch(port, "/readyz")[1]
    mosquitto.start()
    over = {"FarmMqttDown", "FarmNoWorker"}
    eventually(lambda: not over & prometheus.firing(), IN_TIME_S, "the alarms end")
    eventually(lambda: fetch(port, "/readyz")[0] == 200, IN_TIME_S, "it is ready again")


def order(farm: Farm, request: wire.Message) -> None:
    assert isinstance(ask(f"ipc://{farm.state_dir}/control.sock", request, timeout_s=10), wire.Done)


# ---- who is let in -------------------------------------------------------------------------------


def test_a_port_that_is_taken_keeps_the_broker_from_starting_and_says_why(tmp_path: Path) -> None:
    """Prevents: a farm without monitoring, and nobody knows; or a traceback at the start."""
    port = free_port()
    config = tmp_path / "farm.yaml"
    config.write_text(f"model: rule\nmetrics: {{listen: '127.0.0.1:{port}'}}\n")
    with socket.create_server(("127.0.0.1", port)):
        done = run_farm("broker", "--config", config, "--state-dir", tmp_path / "s")
    assert done.returncode == ExitCode.LOCKED
    told = done.stdout + done.stderr
    assert f"metrics.listen: can't listen at 127.0.0.1:{port}" in told
    assert "set another port" in told
    assert "Traceback" not in told


def test_a_broker_that_comes_back_does_its_work_without_monitoring(
    mosquitto: Mosquitto, start_farm: Callable[..., Farm], tmp_path: Path
) -> None:
    """Prevents: a token that is gone by mistake, and ends the farm when its broker restarts."""
    port, token = free_port(), tmp_path / "token"
    token.write_text(TOKEN)
    farm = start_farm(
        mosquitto.port,
        workers=1,
        wait=False,
        metrics={"listen": f"127.0.0.1:{port}", "token_file": str(token)},
    )
    # as early as can be: the supervisor has not heard of it yet
    eventually(lambda: farm.events("metrics_listening"), IN_TIME_S, "it listens")
    token.unlink()
    os.kill(farm.broker_pid(), signal.SIGKILL)
    eventually(lambda: farm.events("metrics_not_listening"), IN_TIME_S, "it says what is wrong")
    eventually(lambda: len(farm.worker_pids()) == 1, IN_TIME_S, "it works again")
    token.write_text(TOKEN)

    def is_seen() -> bool:
        with contextlib.suppress(OSError):  # nobody listens yet
            return fetch(port, "/readyz", Authorization=f"Bearer {TOKEN}")[0] == 200
        return False

    eventually(is_seen, IN_TIME_S, "it is seen again")


def test_it_speaks_tls_to_who_has_the_token_and_takes_a_renewed_certificate(
    certificates: dict[str, str], tmp_path: Path
) -> None:
    """Prevents: a token read off the network, and a restart of the farm every ninety days."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(certificates["cert"], cert)
    shutil.copy(certificates["key"], key)
    port = free_port()
    config = MetricsConfig(listen=f"*:{port}", token=TOKEN, cert_file=cert, key_file=key)
    server = MetricsServer(config, {"/metrics": lambda: Page(HTTPStatus.OK, b"farm 1\n")})
    server.start()

    def ask(ca: str, **headers: str) -> int:
        trusting = ssl.create_default_context(cafile=certificates[ca])
        trusting.check_hostname = False
        request = urllib.request.Request(f"https://127.0.0.1:{port}/metrics", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10, context=trusting) as answer:
                assert answer.read() == b"farm 1\n"
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    shown = {"Authorization": f"Bearer {TOKEN}"}
    with contextlib.closing(contextlib.ExitStack()) as undo:
        undo.callback(server.stop)
        assert ask("ca") == 401
        assert ask("ca", **shown) == 200
        with pytest.raises(OSError, match=r"reset|closed|Remote end|disconnected"):
            fetch(port, "/metrics", **shown)  # plain HTTP
        eventually(lambda: server.requests[400] == 1, IN_TIME_S, "it is told as no request")
        key.write_text("half written")
        with capture_logs() as told:
            assert ask("ca", **shown) == 200
        assert [line["event"] for line in told] == ["metrics_certificate_unusable"]
        shutil.copy(certificates["other_ca"], cert)  # signed by itself
        shutil.copy(certificates["other_key"], key)
        assert ask("other_ca", **shown) == 200


def test_a_certificate_that_is_none_is_named(certificates: dict[str, str], tmp_path: Path) -> None:
    """Prevents: a traceback of OpenSSL's at the start."""
    for cert, key in (
        (certificates["cert"], certificates["client_key"]),
        (certificates["cert"], str(tmp_path / "missing")),
    ):
        config = MetricsConfig(listen=f"127.0.0.1:{free_port()}", cert_file=cert, key_file=key)
        with pytest.raises(ConfigError, match=r"metrics\.cert_file"):
            MetricsServer(config, {})
