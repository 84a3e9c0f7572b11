"""Pages of a real browser, and what went wrong in them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page

#: Milliseconds. A busy machine is no failure; something that never comes is one.
PATIENCE = 20_000


class Watched:
    """Contexts of the browser, and what went wrong in them."""

    def __init__(self, chromium: Browser) -> None:
        self._chromium = chromium
        self._contexts: list[BrowserContext] = []
        self.problems: list[str] = []
        #: answers that a test asks for on purpose, by their status or a word of theirs, are said on the console too
        self.expected: set[int | str] = set()

    def page(self, url: str, *, width: int = 1280, scheme: Any = "light", scripts: bool = True) -> Page:
        """A page in a browser that knows nothing yet, at this address."""
        context = self._chromium.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=scripts
        )
        context.set_default_timeout(PATIENCE)
        self._contexts.append(context)
        page = context.new_page()
        host = urlsplit(url).netloc
        page.on("console", lambda said: self._complain(f"console {said.type}: {said.text}"))
        page.on("pageerror", lambda error: self._complain(f"page error: {error}"))
        page.on("request", lambda asked: self._complain_of_another_host(asked.url, host))
        page.goto(url)
        return page

    def _complain(self, problem: str) -> None:
        if not any((said if isinstance(said, str) else f"status of {said}") in problem for said in self.expected):
            self.problems.append(problem)

    def _complain_of_another_host(self, url: str, host: str) -> None:
        if urlsplit(url).netloc != host:
            self._complain(f"asked another host: {url}")

    def close(self) -> None:
        """Close them all."""
        for context in self._contexts:
            context.close()
