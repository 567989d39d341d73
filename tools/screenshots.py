"""Pictures of the page of `preimage explore`, by a headless Chromium: wide and narrow, light and dark.

    python tools/screenshots.py OUT [--method deepsee] [--photo examples/face0.png]

They are for looking at; only one of them is in docs/.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from preimage.serve.browsers import find_chromium
from preimage.serve.server import start

WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path, help="folder for WIDTH-SCHEME-NAME.png")
    parser.add_argument("--photo", type=Path, default=Path("examples/face0.png"))
    parser.add_argument("--method", default="posterior")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    server = start(method=given.method)
    try:
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=find_chromium())
            for width in WIDTHS:
                for scheme in SCHEMES:
                    shoot(browser, server.url, given.photo, width, scheme, given.out)
    finally:
        server.close()


def shoot(browser: Browser, url: str, photo: Path, width: int, scheme: str, out: Path) -> None:
    """The empty page, the candidates, and each tab of a closer look."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(url)
    page.wait_for_selector("#photo input[type=file]", state="attached")
    page.wait_for_timeout(800)
    page.screenshot(path=out / f"{width}-{scheme}-empty.png")
    page.set_input_files("#photo input[type=file]", photo)
    page.wait_for_selector("#gallery .gallery-item:nth-child(8)")
    settled(page)
    page.screenshot(path=out / f"{width}-{scheme}-page.png", full_page=True)
    for tab in page.locator("#tabs button[role=tab]:visible").all():
        name = tab.inner_text().strip()
        tab.click()
        settled(page)
        page.locator("#tabs").screenshot(path=out / f"{width}-{scheme}-{name.lower().replace(' ', '-')}.png")
    page.close()


def settled(page: Page) -> None:
    page.wait_for_selector("#draw:visible")
    page.wait_for_timeout(1200)


if __name__ == "__main__":
    main()
