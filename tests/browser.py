"""A real browser for the tests of pages: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


@pytest.fixture(scope="module")  # Playwright runs an event loop: no longer than needed
def browser() -> Iterator[Browser]:
    """Return a running Chromium; without one skip with the reason, but fail in CI."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        reason = "no browser found: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield running
        running.close()


class Watched:
    """A tab that notes whatever must not happen: requests, console messages, errors, dialogs."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        options = {"viewport": {"width": 1440, "height": 900}} | options
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.requests: list[str] = []
        self.troubles: list[str] = []
        self.page.on("request", lambda request: self._requested(request.url))
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("dialog", self._dialog)

    def open(self, path: Path) -> Page:
        """Open a page that shows a hierarchy from its file; return when it is drawn."""
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(".node")
        return self.page

    def _requested(self, url: str) -> None:
        if not url.startswith(("data:", "blob:")):
            self.requests.append(url)

    def _dialog(self, dialog: Any) -> None:
        self.troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()
