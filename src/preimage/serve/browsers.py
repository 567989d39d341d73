"""A Chromium on this machine, for tests and pictures of the page."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_chromium() -> str | None:
    """The program: $PREIMAGE_CHROMIUM, one on the path, or Playwright's own; None where there is none."""
    named = os.environ.get("PREIMAGE_CHROMIUM")
    if named:
        return named
    found = next(filter(None, map(shutil.which, NAMES)), None)
    kept = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    own = sorted(kept.glob("chromium*/chrome-*/chrome")) + sorted(kept.glob("chromium*/chrome-*/headless_shell"))
    return found or next((str(path) for path in own), None)
