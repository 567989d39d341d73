"""A page that is answered, and a real browser that looks at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from preimage.serve.browsers import find_chromium
from preimage.serve.server import Server, start


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    found = start()
    yield found
    found.close()


@pytest.fixture(scope="session")
def chromium():
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on this machine; tools/install_browser.sh installs one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def look(chromium):
    """Opens pages, each with the addresses that it asked for in `asked`."""
    contexts = []

    def open_page(url: str, **options):
        context = chromium.new_context(viewport={"width": 1280, "height": 1000}, accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(url)
        page.wait_for_selector("#photo input[type=file]", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
