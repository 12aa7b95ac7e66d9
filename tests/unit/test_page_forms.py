"""The token's form, and what is told without the token."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs

import journals
import pytest
from pages import Page, drilled_hole, written

from farm.page import forms
from farm.page.statics import Statics

TOKEN = "0123456789abcdef0123"
PREFIX = Statics().prefix
PATHS = ("/", "/live", "/tools", "/tool?source=x", "/dead", "/hole/1-1", "/login",
         "/api/holes", "/api/tools", "/api/dead", "/api/holes/0-19")  # fmt: skip


@pytest.fixture
def store(tmp_path):
    made = journals.open_store(tmp_path)
    yield made
    made.close(is_clean=False)


def test_with_a_token_nothing_is_told_without_it(tmp_path, store):
    written(store, drilled_hole(10))
    page = Page(tmp_path, token=TOKEN)
    for path in (*PATHS, "/events"):
        response = page.client.get(path)
        if path == "/login":
            assert response.status_code == 200
        elif path.startswith(("/api", "/events")):
            assert response.status_code == 401, path
            assert TOKEN not in response.text
        else:
            assert response.status_code == 303
            wanted = {} if path == "/" else {"next": [path]}
            form, _, query = response.headers["location"].partition("?")
            assert (form, parse_qs(query)) == ("/login", wanted)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert page.client.get("/api/holes", headers=bearer).json()["total"] == 1


def test_the_form_gives_a_cookie_that_scripts_do_not_see(tmp_path, store, monkeypatch):
    monkeypatch.setattr("farm.page.app.FORM_DELAY_S", 0)
    page = Page(tmp_path, token=TOKEN)
    wrong = page.client.post("/login", data={"token": "wrong"})
    assert wrong.headers["location"] == "/login#wrong"
    assert "set-cookie" not in wrong.headers
    long = page.client.post("/login", content=b"token=" + b"x" * 100_000)
    assert "set-cookie" not in long.headers
    foreign = page.client.post(
        "/login", data={"token": TOKEN}, headers={"Origin": "http://evil.example"}
    )
    assert foreign.status_code == 403
    right = page.client.post("/login", data={"token": TOKEN})
    cookie = right.headers["set-cookie"].lower()
    assert right.headers["location"] == "/"
    assert "httponly" in cookie
    assert "samesite=lax" in cookie  # a link that somebody sent opens
    assert TOKEN not in cookie
    assert page.client.get("/api/tools").status_code == 200
    # behind TLS it never travels without
    secure = page.client.post(
        "https://127.0.0.1:8780/login", data={"token": TOKEN}, headers={"Origin": "https://127.0.0.1:8780"}
    )  # fmt: skip
    assert "secure" in secure.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    ("wanted", "to"),
    [
        ("/?q=unit-3&page=2", "/?q=unit-3&page=2"),
        ("/hole/7-3", "/hole/7-3"),
        ("/tool?source=a%2Fb%20c", "/tool?source=a%2Fb%20c"),
        ("", "/"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("///evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\/\\/evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/hole/../login", "/"),
        ("/login", "/"),
        ("/live\r\nSet-Cookie: a=b", "/"),
        ("/api/holes", "/"),
        ("/?" + "x" * 5000, "/"),
        ("http://[", "/"),
    ],
)
def test_the_form_leads_to_where_one_wanted_and_to_no_other_site(tmp_path, store, wanted, to):
    # prevents: a link that always ends at the list, and one that leads away after the token
    page = Page(tmp_path, token=TOKEN)
    response = page.client.post("/login", params={"next": wanted}, data={"token": TOKEN})
    assert response.headers["location"] == to
    assert "set-cookie" in response.headers


def test_a_wrong_token_keeps_where_one_wanted_to(tmp_path, store, monkeypatch):
    monkeypatch.setattr("farm.page.app.FORM_DELAY_S", 0)
    page = Page(tmp_path, token=TOKEN)
    response = page.client.post("/login?next=%2Flive", data={"token": "wrong"})
    assert response.headers["location"] == "/login?next=%2Flive#wrong"


def test_a_form_that_never_comes_is_not_waited_for(monkeypatch):
    # prevents: four requests without a body that lock the form for everybody
    class Silent:
        async def stream(self):
            yield b"token="
            await asyncio.Event().wait()

    monkeypatch.setattr("farm.page.forms.FORM_TIMEOUT_S", 0.01)

    async def run():
        return await asyncio.wait_for(forms.token_of(Silent()), 10)

    assert asyncio.run(run()) is None


def test_the_shell_is_no_file_that_needs_no_token(tmp_path):
    # prevents: the names of an adapter's columns for whoever asks without a token
    page = Page(tmp_path, token=TOKEN)
    assert page.client.get(f"{PREFIX}/index.html").status_code == 404
    assert page.client.get(f"{PREFIX}/login.html").status_code == 404
    assert page.client.get(f"{PREFIX}/style.css").status_code == 200
