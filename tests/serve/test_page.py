"""The page in a real browser: what a person does with it, what it asks for, and what can go wrong."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from preimage.image import to_pillow
from preimage.serve.server import start
from preimage.verify import verify_folder
from preimage.weights import load_prior

pytest.importorskip("playwright")
FACE = Path(__file__).parents[2] / "examples" / "face0.png"


def drop(page, photo: Path) -> None:
    page.set_input_files("#photo input[type=file]", photo)


def cards(page, count: int) -> None:
    """Wait for so many candidates, and no more, with nothing being drawn."""
    page.wait_for_function(
        "n => document.querySelectorAll('#gallery .gallery-item').length === n && document.querySelector('#draw')?.offsetParent",
        arg=count,
    )


def tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def download(page, button: str) -> bytes:
    with page.expect_download() as found:
        page.click(button)
    return Path(found.value.path()).read_bytes()


def working() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "preimage-work"]


def test_a_person_explores(server, look, tmp_path):
    page = look(server.url)
    drop(page, FACE)
    cards(page, 8)
    page.wait_for_function("document.querySelector('#proof')?.innerText.includes('every byte')")
    page.click("#draw")
    cards(page, 16)
    page.click("#undo")
    cards(page, 8)
    page.click("#redo")
    cards(page, 16)
    page.click("#gallery .gallery-item:nth-child(3) button")
    page.wait_for_function("document.querySelector('#proof')?.innerText.includes('seed 2')")

    tab(page, "Vary")
    page.click("#vary")
    cards(page, 20)
    page.wait_for_function("document.querySelector('#proof')?.innerText.includes('seed 2, outline 0.6')")
    tab(page, "Between")
    page.click("#walk")
    cards(page, 23)
    tab(page, "Left open")
    page.wait_for_function("document.querySelector('#direction input')?.value.startsWith('direction 1')")
    page.click("#move")
    cards(page, 24)
    page.wait_for_function("document.querySelector('#proof')?.innerText.includes('every byte')")
    wide = page.viewport_size
    page.set_viewport_size({"width": 400, "height": 900})
    page.wait_for_function("document.documentElement.scrollWidth === 400")  # nothing hangs out of a narrow page
    page.set_viewport_size(wide)

    # every picture that is looked at or kept is a PNG, and the one that is kept shrinks to the photo, byte for byte
    photo = np.asarray(Image.open(FACE).convert("RGB"))
    data = download(page, "#one")
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        assert "story" in image.text
        assert np.array_equal(np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC)), photo)
    shown = page.evaluate("[...document.querySelectorAll('img')].map(i => i.src).filter(s => s.includes('file='))")
    assert len(shown) > 25
    assert all(src.endswith(".png") for src in shown)
    first = page.request.get(page.locator("#gallery img").first.get_attribute("src")).body()
    with Image.open(io.BytesIO(first)) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC)), photo)
    with zipfile.ZipFile(io.BytesIO(download(page, "#all"))) as archive:
        assert len(archive.namelist()) == 25
    with zipfile.ZipFile(io.BytesIO(download(page, "#results"))) as archive:
        archive.extractall(tmp_path)
    found = verify_folder(tmp_path / "results")
    assert (found.exact, found.problems) == (24, [])

    hosts = {urlsplit(url).hostname for url in page.asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}


def test_faces_are_found_in_a_photo_and_chosen_by_a_click(server, look, tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed; it belongs to the extra faces")
    crowd = np.full((260, 420, 3), 128, np.uint8)
    for picture, (x, y, side) in zip(
        load_prior().sample([3, 24]).clamp(0, 1), ((30, 60, 96), (260, 40, 110)), strict=True
    ):
        crowd[y : y + side, x : x + side] = np.asarray(to_pillow(picture).resize((side, side), Image.Resampling.BOX))
    Image.fromarray(crowd).save(tmp_path / "crowd.png")
    page = look(server.url)
    drop(page, tmp_path / "crowd.png")
    cards(page, 8)
    before = page.locator("#small img").get_attribute("src")
    box = page.locator("#marked img").bounding_box()
    page.locator("#marked img").click(position={"x": box["width"] * 78 / 420, "y": box["height"] * 108 / 260})
    page.wait_for_function("src => document.querySelector('#small img').src !== src", arg=before)
    cards(page, 8)

    def goes(start: tuple[float, float], end: tuple[float, float]) -> dict[str, float]:
        """A finger between two points of the photo; where the square is then, in pixels of it."""
        was = page.locator("#square-now").get_attribute("data-x")
        box = page.locator("#marked img").bounding_box()
        x, y, scale = box["x"], box["y"], box["width"] / 420
        page.mouse.move(x + start[0] * scale, y + start[1] * scale)
        page.mouse.down()
        page.mouse.move(x + (start[0] + end[0]) / 2 * scale, y + (start[1] + end[1]) / 2 * scale)
        page.mouse.move(x + end[0] * scale, y + end[1] * scale)
        assert page.locator("#dragging").count() == 1
        page.mouse.up()
        page.wait_for_function("x => document.querySelector('#square-now').dataset.x !== x", arg=was)
        cards(page, 8)
        return {k: 420 * float(page.locator("#square-now").get_attribute(f"data-{k}")) for k in ("x", "y", "side")}

    now = goes((120, 20), (220, 120))  # beside all squares: a new one
    assert now == pytest.approx({"x": 170, "y": 70, "side": 100}, abs=3)
    now = goes((170, 70), (200, 110))
    assert now == pytest.approx({"x": 200, "y": 110, "side": 100}, abs=3)
    tab(page, "In the photo")
    page.wait_for_selector("#pasted img")
    page.click("#pick")
    page.wait_for_function("document.querySelector('#status')?.innerText.includes('picked 8 of 64')", timeout=60_000)
    cards(page, 8)
    assert "%" in page.inner_text("#gallery")


def test_regions_are_painted_with_a_brush(server, look):
    page = look(server.url)
    page.click("#method input")
    page.get_by_role("option", name="deepsee").click()
    page.wait_for_function("document.body.innerText.includes('told 19 regions')")
    drop(page, FACE)
    cards(page, 8)
    tab(page, "Paint")
    canvas = page.locator("#canvas canvas").first
    canvas.wait_for()
    page.wait_for_timeout(1000)  # the editor lays its picture out
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 60, y - 60)
    page.mouse.down()
    page.mouse.move(x + 60, y - 60, steps=3)
    page.mouse.up()
    page.click("#repaint")
    cards(page, 9)
    page.wait_for_function("document.querySelector('#proof')?.innerText.includes('mask')")


def test_a_search_is_stopped_and_a_closed_tab_stops_its_own(server, look):
    page = look(server.url)
    page.click("#method input")
    page.get_by_role("option", name="pulse", exact=True).click()
    page.wait_for_function("document.body.innerText.includes('search')")
    page.get_by_role("button", name="Settings").click()
    steps = page.get_by_label("steps", exact=True)
    steps.fill("100000")
    steps.press("Tab")
    page.wait_for_timeout(500)
    page.click("#configure")
    page.wait_for_timeout(500)
    drop(page, FACE)
    page.wait_for_function("document.querySelector('#status')?.innerText.includes('of 100000')")
    page.click("#stop")
    page.wait_for_selector("#draw:visible")
    page.click("#draw")
    page.wait_for_function("document.querySelector('#status')?.innerText.includes('of 100000')")
    assert working()
    page.close()
    deadline = time.monotonic() + 30
    while working() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not working()


def test_two_tabs_do_not_mix(server, look):
    one, other = look(server.url), look(server.url)
    drop(one, FACE)
    drop(other, FACE.with_name("face1.png"))
    for page in (one, other):
        cards(page, 8)
    one.click("#draw")
    cards(one, 16)
    other.click("#undo")
    cards(other, 0)
    cards(one, 16)
    with Image.open(io.BytesIO(download(one, "#one"))) as image:
        small = np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(small, np.asarray(Image.open(FACE).convert("RGB")))


def test_what_cannot_be_opened_is_refused_kindly(server, look, tmp_path):
    page = look(server.url)
    (tmp_path / "broken.png").write_bytes(FACE.read_bytes()[:100])
    Image.new("L", (8000, 6250)).save(tmp_path / "huge.png")
    for name, said in (("broken.png", "truncated or damaged"), ("huge.png", "50 megapixels")):
        drop(page, tmp_path / name)
        page.wait_for_function("said => document.body.innerText.includes(said)", arg=said)
        assert str(server.root) not in page.inner_text("body")
        page.get_by_label("Remove Image").click()
    drop(page, FACE)  # and goes on
    cards(page, 8)


def test_a_page_whose_server_was_started_again_goes_on(look):
    first = start()
    page = look(first.url)
    drop(page, FACE)
    cards(page, 8)
    root, port = first.root, urlsplit(first.url).port
    first.close()
    assert not root.exists()
    second = start(port=port)
    try:
        page.goto(second.url)
        page.wait_for_selector("#photo input[type=file]", state="attached")
        drop(page, FACE)
        cards(page, 8)
    finally:
        second.close()
