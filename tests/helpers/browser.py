"""Pages as a real browser shows them: Chromium without a network, and what it complains of."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, sync_playwright

CHROMIUM = shutil.which("chromium")
IS_NEEDED = os.environ.get("SBE_NEEDS_BROWSER") == "1"  # as .ci/run says
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@dataclass
class Seen:
    """A page, and what happened on it.

    Attributes:
        page: the page.
        complaints: errors and warnings of the console, of scripts, and requests that failed.
        requests: addresses of everything that it asked for.
        alerts: texts of windows that scripts opened.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)

    def is_whole(self, width: int) -> bool:
        """Whether nothing is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth") <= width

    def assert_quiet(self, folder: Path) -> None:
        """Nothing to complain of, and nothing asked for outside of `folder`."""
        assert self.complaints == []
        assert self.alerts == []
        inside = folder.resolve().as_uri() + "/"
        assert [each for each in self.requests if not each.startswith((inside, "data:"))] == []


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, or a skip where there is none, unless it is needed."""
    if CHROMIUM is None:
        reason = "chromium is not installed (Debian: apt-get install chromium)"
        pytest.fail(reason) if IS_NEEDED else pytest.skip(reason)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@contextlib.contextmanager
def opened(
    launched: Browser, path: Path, width: int = 1600, scheme: str = "light"
) -> Iterator[Seen]:
    """The page in the file at `path`, in a window of `width` pixels."""
    context = launched.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        offline=True,
    )
    page = context.new_page()
    seen = Seen(page)

    def hear(said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            seen.complaints.append(said.text)

    def refuse(window: Dialog) -> None:
        seen.alerts.append(window.message)
        window.dismiss()

    page.on("console", hear)
    page.on("dialog", refuse)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("requestfailed", lambda request: seen.complaints.append(f"failed: {request.url}"))
    page.on("request", lambda request: seen.requests.append(request.url))
    page.goto(path.resolve().as_uri())
    yield seen
    context.close()
