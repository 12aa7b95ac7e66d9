"""Who may look at the page."""

from __future__ import annotations

import pytest

from farm.page.gate import COOKIE_LIFE_S, Gate

TOKEN = "0123456789abcdef0123"


def lets_in(gate, *, authorization="", cookie="", now_s=1000.0):
    return gate.lets_in(authorization=authorization, cookie=cookie, now_s=now_s)


@pytest.mark.parametrize(
    ("host", "is_known"),
    [
        ("127.0.0.1:8780", True),
        ("localhost:8780", True),
        ("LOCALHOST", True),
        ("[::1]:8780", True),
        ("", False),
        ("evil.example:8780", False),
        ("127.0.0.1.evil.example", False),
        ("localhost:8780:1", False),
        ("127.0.0.1:x", False),
    ],
)
def test_without_a_token_only_local_names_are_answered(host, is_known):
    # prevents: a stranger's site whose name resolves to 127.0.0.1 reading the page (DNS rebinding)
    assert Gate(None, "127.0.0.1").knows_host(host) is is_known


def test_with_a_token_a_proxy_may_give_any_name():
    assert Gate(TOKEN, "127.0.0.1").knows_host("farm.plant.example")


@pytest.mark.parametrize(
    ("authorization", "is_let_in"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN} ", True),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
        ("Bearer ", False),
        (f"Basic {TOKEN}", False),
        ("Bearer \udcff", False),
        ("", False),
    ],
)
def test_the_bearer(authorization, is_let_in):
    assert lets_in(Gate(TOKEN, "::"), authorization=authorization) is is_let_in


def test_two_pages_on_one_host_do_not_log_each_other_out():
    # prevents: one cookie for all ports of a machine, which the later page takes from the other
    names = {Gate(token, "::").cookie_name for token in (TOKEN, TOKEN[::-1])}
    assert len(names) == 2
    assert Gate(TOKEN, "::").cookie_name in names  # and the same one after a start


def test_a_cookie_holds_for_a_week_and_for_this_token():
    # prevents: a cookie that outlives a change of the token, or whose end can be moved
    gate = Gate(TOKEN, "::")
    cookie = gate.cookie(1000.0)
    assert TOKEN not in cookie
    assert lets_in(gate, cookie=cookie)
    assert lets_in(gate, cookie=cookie, now_s=999.0 + COOKIE_LIFE_S)
    assert not lets_in(gate, cookie=cookie, now_s=1001.0 + COOKIE_LIFE_S)
    until, _, signature = cookie.partition(".")
    for forged in (f"{int(until) + 1}.{signature}", f"{until}.", until, "", f"{until}.{TOKEN}",
                   f"{'9' * 400}.{signature}", f"²{until}.{signature}"):  # fmt: skip
        assert not lets_in(gate, cookie=forged)
    assert not lets_in(Gate(TOKEN[::-1], "::"), cookie=cookie)
