"""A real headless Chromium for the whole session, and pages that report everything that goes wrong in them."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

LIMIT_MS = 120_000
PHONE = (390, 844)
DESKTOP = (1280, 800)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

expect.set_options(timeout=LIMIT_MS)


@dataclass
class Visit:
    """One tab, and what happened in it.

    Attributes:
        origins: of everything that it has asked for.
        complaints: errors and warnings of its console, and scripts that failed.
    """

    page: Page
    origins: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def open(self, address: str) -> None:
        """Go there and wait for the first news."""
        self.page.goto(address)
        expect(self.page.locator("#live")).to_contain_text("Live, as of")

    def note_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        self.origins.add(f"{parts.scheme}://{parts.netloc}/")


Visitor = Callable[..., Visit]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Where it is missing the test is skipped, but in CI it fails."""
    program = shutil.which("chromium")
    if program is None:
        message = "chromium is not installed: sudo apt install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        # Each launch has a new profile.
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visitor]:
    """Makes tabs: `visit(size=PHONE, dark=True)`."""
    contexts = []

    def make(size: tuple[int, int] = DESKTOP, dark: bool = False, ignore_https_errors: bool = False) -> Visit:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            ignore_https_errors=ignore_https_errors,
        )
        contexts.append(context)
        made = Visit(context.new_page())
        made.page.set_default_timeout(LIMIT_MS)
        made.page.on("request", made.note_request)
        made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
        made.page.on(
            "console",
            lambda message: made.complaints.append(message.text) if message.type in ("error", "warning") else None,
        )
        return made

    yield make
    for context in contexts:
        context.close()
