"""A real headless Chromium for the tests of the page, and where its pictures go."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

SCREENS = Path(__file__).resolve().parent.parent / "build" / "screens"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
PATIENCE_MS = 20_000


def find_chromium() -> str | None:
    """Its path, as the system has it; None where it is not installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Skips where there is none, but never in CI: a skipped suite looks like a green one."""
    path = find_chromium()
    if path is None:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail("chromium is missing, and in CI nothing may be skipped")
        pytest.skip("chromium is not installed: apt install chromium")
    with sync_playwright() as playwright:
        # root, as in a container, has no sandbox of its own
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page of one size that remembers every error of its scripts and of its policy."""

    def __init__(self, browser: Browser, base: str, size: str = "desktop", scheme: str = "light"):
        width, height = SIZES[size]
        is_phone = size == "phone"
        self.base, self.size, self.scheme = base, size, scheme
        self.context: BrowserContext = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            device_scale_factor=2 if is_phone else 1,
            has_touch=is_phone,
            locale="en-GB",
        )
        self.context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console",
            lambda told: (
                self.errors.append(told.text) if told.type in ("error", "warning") else None
            ),
        )

    def open(self, path: str = "/") -> Page:
        self.page.goto(self.base + path)
        return self.page

    def shoot(self, name: str, *, is_whole: bool = False) -> None:
        """A picture into build/screens; no page is wider than the screen."""
        SCREENS.mkdir(parents=True, exist_ok=True)
        path = SCREENS / f"{name}-{self.size}-{self.scheme}.png"
        self.page.screenshot(path=path, full_page=is_whole)
        assert not self.overflow(), f"{name} is wider than the screen: {self.overflow()}"

    def overflow(self) -> int:
        """Pixels by which the page is wider than the screen."""
        return self.page.evaluate(
            "Math.max(0, document.documentElement.scrollWidth - window.innerWidth)"
        )

    def close(self) -> None:
        self.context.close()
