"""Seconds from `preimage explore` to a page that answers, and from dropping a photo to the first and the eighth candidate.

python benchmarks/page.py examples/face0.png --methods posterior deepsee pro-pulse pulse --repeat 3
    medians, by a headless Chromium on the same machine, which takes its share of the cores
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, sync_playwright

from preimage.serve.browsers import find_chromium


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("--methods", nargs="+", default=["posterior"])
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    print("| method | page answers, s | first candidate, s | eighth candidate, s |\n|---|---|---|---|")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        for method in given.methods:
            rows = [once(browser, method, given.photo) for _ in range(given.repeat)]
            print(f"| {method} | " + " | ".join(f"{median(times):.1f}" for times in zip(*rows, strict=True)) + " |")


def once(browser: Browser, method: str, photo: Path) -> tuple[float, float, float]:
    """One start, one photo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "preimage.cli", "explore", "--no-browser", "--method", method, "--port", str(port)]
    began = time.perf_counter()
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        answered = answers(f"http://127.0.0.1:{port}/", server) - began
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("#photo input[type=file]", state="attached")
        page.wait_for_timeout(1000)
        dropped = time.perf_counter()
        page.set_input_files("#photo input[type=file]", photo)
        times = []
        for count in (1, 8):  # candidates, not what is only being searched
            page.wait_for_function(
                "n => [...document.querySelectorAll('#gallery .caption-label')]"
                ".filter(x => x.innerText.startsWith('seed')).length >= n",
                arg=count,
                timeout=600_000,
            )
            times.append(time.perf_counter() - dropped)
        page.close()
        return answered, times[0], times[1]
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def answers(url: str, server: subprocess.Popen[bytes]) -> float:
    """When the page is there, by `time.perf_counter`."""
    while server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return time.perf_counter()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.02)
    raise SystemExit(f"the page ended with status {server.returncode}")


if __name__ == "__main__":
    main()
