"""Fixtures of these tests alone: certificates, passwords, a Prometheus, made for the occasion."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from prometheus import Prometheus

from farm.simulation.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from browser import Watched
    from playwright.sync_api import Browser


@pytest.fixture
def unused_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    return free_port()


@pytest.fixture(scope="session")
def has_prometheus() -> None:
    """Skip where there is no Prometheus, but never in CI, as for mosquitto."""
    if shutil.which("prometheus") and shutil.which("promtool"):
        return
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(
            "prometheus is missing, and in CI nothing may be skipped: apt install prometheus"
        )
    pytest.skip("prometheus is not installed: apt install prometheus")


@pytest.fixture
def start_prometheus(tmp_path: Path, has_prometheus: None) -> Iterator[Callable[..., Prometheus]]:
    """Starts one with the shipped rules: `start_prometheus(target, window)`."""
    made: list[Prometheus] = []

    def start(target: str, window: str = "") -> Prometheus:
        made.append(Prometheus(tmp_path, target, window))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium without a window."""
    from browser import chromium  # noqa: PLC0415 - playwright, which only tests of pages need

    with chromium() as made:
        yield made


@pytest.fixture
def watch(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """Opens pages in it: `watch(base, …)`, see `Watched`."""
    from browser import Watched  # noqa: PLC0415 - likewise

    made: list[Watched] = []

    def open_(base: str, **options: Any) -> Watched:
        made.append(Watched(browser, base, **options))
        return made[-1]

    yield open_
    for each in made:
        each.close()


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    """The mosquitto setting that lets in `driller` with `s3cret` and nobody else."""
    path = tmp_path / "passwords"
    command = ["mosquitto_passwd", "-b", "-c", str(path), "driller", "s3cret"]
    subprocess.run(command, check=True, capture_output=True)
    return f"allow_anonymous false\npassword_file {path}"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of a CA, of a server's certificate and key for 127.0.0.1, of a client's, and of
    another CA.
    """
    home = tmp_path_factory.mktemp("tls")
    for name in ("ca", "other"):
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-subj", f"/CN={name}"),
            *("-keyout", home / f"{name}.key", "-out", home / f"{name}.pem"),
        )
    _openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", "/CN=localhost", "-keyout", home / "server.key", "-out", home / "server.csr"),
    )
    (home / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    _openssl(
        *("x509", "-req", "-days", "2", "-in", home / "server.csr", "-CA", home / "ca.pem"),
        *("-CAkey", home / "ca.key", "-CAcreateserial", "-extfile", home / "san"),
        *("-out", home / "server.pem"),
    )
    _openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", "/CN=farm-7", "-keyout", home / "client.key", "-out", home / "client.csr"),
    )
    _openssl(
        *("x509", "-req", "-days", "2", "-in", home / "client.csr", "-CA", home / "ca.pem"),
        *("-CAkey", home / "ca.key", "-CAcreateserial", "-out", home / "client.pem"),
    )
    return {
        "client_cert": str(home / "client.pem"),
        "client_key": str(home / "client.key"),
        "ca": str(home / "ca.pem"),
        "other_ca": str(home / "other.pem"),
        "other_key": str(home / "other.key"),
        "cert": str(home / "server.pem"),
        "key": str(home / "server.key"),
    }


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
