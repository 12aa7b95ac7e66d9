"""The file with a token: what is one, and what is refused."""

from __future__ import annotations

import pytest

from farm.errors import ConfigError
from farm.token_file import read_token

KEY = "page.token_file"
TOKEN = "0123456789abcdef0123"


def test_the_first_line_of_the_file_is_the_token(tmp_path):
    path = tmp_path / "token"
    path.write_bytes(f" {TOKEN}\r\nmore\n".encode())
    assert read_token(KEY, path) == TOKEN


@pytest.mark.parametrize(
    "content",
    [
        b"", b"short\n", b"\n0123456789abcdef0123\n", "ä".encode() * 20,
        b"0123456789\x0012345678", b"x" * 3000,
    ],
)  # fmt: skip
def test_what_is_no_token_is_refused(tmp_path, content):
    # prevents: an empty file that opens the page to everyone
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"page\.token_file.*16"):
        read_token(KEY, path)
    with pytest.raises(ConfigError, match="can't be read"):
        read_token(KEY, tmp_path / "none")
