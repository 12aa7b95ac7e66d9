"""A real Prometheus for tests, which knows the rules of etc/alerts.yml."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from rig import REPOSITORY

from farm.simulation.ports import free_port
from farm.simulation.tether import tethered

if TYPE_CHECKING:
    from pathlib import Path

ETC = REPOSITORY / "etc"
EXAMPLE = "127.0.0.1:9477"  # the target of etc/prometheus.yml
SCRAPE_S = 1


class Prometheus:
    """One with a folder and a port of its own, with the shipped rules, only quicker.

    Args:
        folder: where it may write.
        target: the farm's address.
        window: in place of the minutes over which the rules look back; "": as they are.
    """

    def __init__(self, folder: Path, target: str, window: str = "") -> None:
        self.port = free_port()
        config = yaml.safe_load((ETC / "prometheus.yml").read_text())
        assert config["scrape_configs"][0]["static_configs"][0]["targets"] == [EXAMPLE]
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
        interval = f"{SCRAPE_S}s"
        config["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        rules = yaml.safe_load((ETC / "alerts.yml").read_text())
        for rule in rules_of(rules):
            rule["for"] = "0s"
            if window:
                rule["expr"] = re.sub(r"\[\d+m\]", f"[{window}]", rule["expr"])
        (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
        self._log = folder / "log"
        command = [
            *("prometheus", f"--config.file={folder / 'prometheus.yml'}"),
            *(f"--storage.tsdb.path={folder / 'data'}", "--log.level=warn"),
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                tethered(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            pytest.fail(f"{path} {query}: {error.read().decode()}")

    def values(self, expression: str) -> list[float]:
        found = self.ask("query", query=expression)
        if found["resultType"] == "scalar":
            return [float(found["result"][1])]
        return [float(sample["value"][1]) for sample in found["result"]]

    def is_up(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with contextlib.suppress(OSError):  # it is starting
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=10).close()
            return self.values('up{job="farm"}') == [1.0]
        return False

    def firing(self) -> set[str]:
        alerts = self.ask("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}


def rules_of(text: dict[str, Any]) -> list[dict[str, Any]]:
    return [rule for group in text["groups"] for rule in group["rules"]]


def fetch(port: int, path: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
