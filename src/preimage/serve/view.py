"""What a tab shows: the present moment of its explorer as values of the page's components, by name."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr
import torch.nn.functional as F
from torch import Tensor

from preimage.crops import marked, whole
from preimage.explorer import Explorer
from preimage.image import to_pillow
from preimage.invert.method import Handle
from preimage.saving import zip_cards, zip_results
from preimage.semantics.painting import paintable
from preimage.serve.tabs import Tab
from preimage.sheet import heatmap
from preimage.working import Progress

CANVAS = 256
"""Side of what is painted on."""
SHOWN = 512
"""Side to which small pictures are enlarged before they are looked at; those that are downloaded stay as they are."""
MARKED = 512
"""Longest side of the photo on which faces are marked."""
MOVE = """<p class="caption" id="square-now" data-x="{}" data-y="{}" data-side="{}" data-turn="{}">Click a face; drag the square, or a
corner of it; draw a new one beside it.</p>"""
"""Where the square is, in widths of the photo and degrees, for the page's own script."""
View = dict[str, Any]


def whole_view(tab: Tab) -> View:
    """Everything."""
    return photo_view(tab) | gallery_view(tab) | looking_view(tab) | files_view(tab) | buttons_view(tab, False)


def photo_view(tab: Tab) -> View:
    """The photo with its squares, and the small face that is answered."""
    explorer, state = tab.explorer, tab.explorer.now
    if state.photo is None or state.square is None or state.problem is None:
        return {
            "adjusting": gr.update(visible=False),
            "desk": gr.update(visible=False),
            "empty": gr.update(visible=True),
        }
    squares, chosen = explorer.squares()
    height, width = state.photo.pixels.shape[-2:]
    square, most = state.square, explorer.most_pixels(state.square)
    return {
        "adjusting": gr.update(visible=True),
        "desk": gr.update(visible=True),
        "empty": gr.update(visible=False),
        "crowd": gr.update(
            visible=square != whole(state.photo.pixels) or max(height, width) > explorer.method.resolution
        ),
        "marked-said": MOVE.format(
            *(round(x, 5) for x in (square.x / width, square.y / width, square.side / width)), square.turn
        ),
        "marked": tab.picture(marked(state.photo.pixels, squares, chosen, MARKED), "photo"),
        "small": tab.picture(enlarged(state.problem.lr, 160), "input"),
        "small-said": f'<p class="caption"><b>Your input</b><br>{state.pixels}×{state.pixels} pixels, as every candidate has it</p>',
        "x": gr.update(value=round(square.x, 1), minimum=0, maximum=width),
        "y": gr.update(value=round(square.y, 1), minimum=0, maximum=height),
        "side": gr.update(value=round(square.side, 1), minimum=4, maximum=max(4, round(1.5 * max(height, width)))),
        "turn": gr.update(value=round(square.turn, 1)),
        "pixels": gr.update(value=state.pixels, minimum=min(4, most), maximum=max(most, 5)),
    }


def gallery_view(tab: Tab, preview: Tensor | None = None) -> View:
    """The candidates, and behind them what is being searched."""
    cards = tab.explorer.now.cards
    shown: list[Any] = [(tab.file_of(card), card.story) for card in cards]
    shown += [] if preview is None else [(to_pillow(image), "searching …") for image in preview]
    return {"gallery": gr.update(value=shown, selected_index=tab.explorer.now.chosen)}


def looking_view(tab: Tab) -> View:
    """The candidate that is looked at, what it proves, and what can be done with it."""
    explorer, card = tab.explorer, tab.explorer.now.card
    labels = explorer.regions()
    if card is None:
        return {"looking": gr.update(visible=False), "proof": ""}
    image, proof, certain = card.candidate.images[0], explorer.proof(), explorer.certainty()
    side = image.shape[-1] * max(1, SHOWN // image.shape[-1])
    before = tab.picture(enlarged(card.candidate.lr, side), "input")
    after = tab.picture(
        F.interpolate(image[None], (side, side), mode="bicubic", antialias=True)[0].clamp(0, 1), "candidate"
    )
    mark, css = ("✓", "yes") if proof.exact else ("!", "no")
    others = [(c.story, i) for i, c in enumerate(explorer.now.cards) if c is not card and c.candidate.latents]
    view: View = {
        "looking": gr.update(visible=True),
        "slider": (before, after),
        "proof": f'<div class="proof"><span class="{css}">{mark}</span><span><b>{escape(card.story)}</b> — '
        f'{escape(proof.text)} <span class="story">All other detail is imagined.</span></span></div>',
        "certain": None if certain is None else tab.picture(enlarged(heatmap(certain), SHOWN), "certainty"),
        "other": gr.update(choices=others, value=others[0][1] if others else None),
        "pasting": gr.update(
            visible=explorer.now.photo is not None and explorer.now.square != whole(explorer.now.photo.pixels)
        ),
        "pasted": None,
        "painting": gr.update(visible=labels is not None),
        "varying": gr.update(visible=bool(turnable(explorer)) and bool(card.candidate.latents)),
        "open": gr.update(visible=explorer.method.capabilities.many),
        "between": gr.update(visible=explorer.method.capabilities.continues and bool(card.candidate.latents)),
    }
    if labels is not None:
        ground = to_pillow(paintable(labels, image, CANVAS))
        view["canvas"] = {"background": ground, "layers": [], "composite": None}
    return view


def files_view(tab: Tab) -> View:
    """What can be downloaded."""
    state, card = tab.explorer.now, tab.explorer.now.card
    if state.photo is None or not state.cards:
        return {"files": gr.update(visible=False)}
    place, name = tab.new_folder(), state.photo.name
    return {
        "files": gr.update(visible=True),
        "one": gr.update(value=None if card is None else tab.file_of(card), interactive=card is not None),
        "all": str(zip_cards(state, place / f"{name}-pictures.zip")),
        "results": str(zip_results(state, tab.explorer.method, place / f"{name}-results.zip")),
    }


def buttons_view(tab: Tab, busy: bool) -> View:
    """Which buttons can be pressed."""
    explorer = tab.explorer
    many = explorer.method.capabilities.many
    state = explorer.now
    notes = "" if state.photo is None else " · ".join(state.photo.notes)
    count = len(state.cards)
    said = f"{count} candidate{'' if count == 1 else 's'} · last: {state.did}" + (f" · {notes}" if notes else "")
    return {
        "draw": gr.update(visible=not busy, value="Eight more" if state.cards else "Imagine eight", interactive=many or not state.cards),
        "pick": gr.update(visible=not busy and many),
        "stop": gr.update(visible=busy),
        "undo": gr.update(interactive=explorer.can_undo),
        "redo": gr.update(interactive=explorer.can_redo),
        "status": "" if state.photo is None else f'<div class="line"><span>{escape(said)}</span></div>',
    }  # fmt: skip


def progress_view(tab: Tab, progress: Progress) -> View:
    """What changes while something is drawn."""
    done = progress.made + (progress.step / progress.of if progress.of > 1 else 0)
    said = "somebody else's turn; yours comes next …" if progress.waiting else f"{progress.made} of {progress.wanted}"
    if progress.of > 1 and not progress.waiting:
        said += f", step {progress.step} of {progress.of}"
    line = (
        f'<div class="line"><progress max="{progress.wanted}" value="{done:.2f}"></progress><span>{said}</span></div>'
    )
    return gallery_view(tab, progress.preview) | buttons_view(tab, True) | {"status": line}


def turnable(explorer: Explorer) -> list[Handle]:
    """Handles that one number or one picture turns; maps are painted."""
    return [handle for handle in explorer.handles if handle.kind != "labels"]


def handle_label(handle: Handle) -> str:
    """What a person reads of a handle."""
    name = handle.name
    if handle.kind == "picture":
        return f"{name.removesuffix('-like')}: as in a photo" if name != "reference" else "everything: as in a photo"
    if handle.kind == "slider":
        return f"{name.removesuffix('-shift')}: {'contrast' if name.endswith('-shift') else 'set'}"
    return f"{name}: drawn anew"


def enlarged(image: Tensor, side: int) -> Tensor:
    """(3, h, w) -> (3, side, side), pixels kept visible."""
    return F.interpolate(image[None], (side, side), mode="nearest")[0]
