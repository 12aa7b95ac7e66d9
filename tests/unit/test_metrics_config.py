"""What `metrics:` may say: nothing leaves this machine without a token, and no token is shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from farm.config import Config, load_config
from farm.config.metrics import MetricsConfig
from farm.config.show import model_view, shown, worker_view
from farm.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "a-token-of-enough-characters"


def load(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Any:
    path = tmp_path / "farm.yaml"
    path.write_text(text)
    return load_config(path, {}, environ or {})


def test_nothing_listens_unless_it_is_told_to() -> None:
    """Prevents: a second farm of a machine that does not start for a port nobody asked for."""
    assert Config().metrics.port == 0


@pytest.mark.parametrize(
    ("listen", "host", "is_local"),
    [
        ("127.0.0.1:9477", "127.0.0.1", True),
        ("127.8.8.8:9477", "127.8.8.8", True),
        ("[::1]:9477", "::1", True),
        ("localhost:9477", "localhost", True),
        ("*:9477", "*", False),
        ("0.0.0.0:9477", "0.0.0.0", False),
        ("[::]:9477", "::", False),
        ("10.0.0.7:9477", "10.0.0.7", False),
        ("farm.plant:9477", "farm.plant", False),
        ("127.0.0.1.evil:9477", "127.0.0.1.evil", False),
        ("localhost.evil:9477", "localhost.evil", False),
    ],
)
def test_beyond_loopback_a_token_is_demanded(listen: str, host: str, is_local: bool) -> None:
    """Prevents: names of hosts and rates of a factory, open to its whole network."""
    made = MetricsConfig(listen=listen, token=TOKEN)
    assert (made.host, made.port, made.is_local) == (host, 9477, is_local)
    if is_local:
        assert not MetricsConfig(listen=listen).has_token
    else:
        with pytest.raises(ValueError, match="must be on loopback"):
            MetricsConfig(listen=listen)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("listen: 300.1.1.1:80", ":2: metrics.listen: 300.1.1.1:80 is not allowed: must be HOST"),
        ("listen: 9477", ":2: metrics.listen: 9477 is not allowed: must be HOST:PORT"),
        ("listen: '127.0.0.1:0'", "must be HOST:PORT"),
        ("listen: '127.0.0.1:65536'", "must be HOST:PORT"),
        ("listen: ':9477'", "must be HOST:PORT"),
        ("listen: 'http://127.0.0.1:9477'", "must be HOST:PORT"),
        ("listen: '*:9477'", "must be on loopback, or metrics.token_file must be given"),
        (
            "token: short",
            ":2: metrics.token: ******** is not allowed: must be 16 or more printable ASCII",
        ),
        (
            'token: "sixteen\\tcharacters!"',
            "metrics.token: ******** is not allowed: must be 16 or more",
        ),
        (f"token: {TOKEN}\n  token_file: /t", "give either token or token_file, not both"),
        ("cert_file: /c", "metrics.cert_file: needs key_file beside it"),
        ("key_file: /k", "metrics.key_file: needs cert_file beside it"),
        ("lisen: '127.0.0.1:9477'", "did you mean metrics.listen?"),
    ],
)
def test_what_can_not_be_is_named(tmp_path: Path, text: str, words: str) -> None:
    """Prevents: a farm that starts and is not to be seen, or is seen by everybody."""
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, f"metrics:\n  {text}\n")
    assert words in str(raised.value)
    assert "short" not in str(raised.value).replace("shorter", "")
    assert TOKEN not in str(raised.value)


def test_a_token_comes_from_the_environment_and_is_shown_nowhere(tmp_path: Path) -> None:
    """Prevents: a secret on a command line, in `farm config show`, or told to workers."""
    loaded = load(tmp_path, "metrics: {listen: '*:9477'}\n", {"FARM_METRICS__TOKEN": TOKEN})
    config = loaded.config
    assert config.metrics.token.get_secret_value() == TOKEN
    told = [shown(loaded), repr(config), str(config.model_dump())]
    told += [json.dumps(worker_view(config)), json.dumps(model_view(config))]
    assert not [text for text in told if TOKEN in text]
    assert Config.model_validate(worker_view(config)).metrics == MetricsConfig()
