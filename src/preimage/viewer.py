"""An explorer as HTML for notebooks: its photo, its candidates and what is certain, with every picture inside as PNG."""

from __future__ import annotations

import base64
import html
import io

from torch import Tensor

from preimage.history import State
from preimage.image import to_pillow
from preimage.sheet import heatmap

SIDE = 160
"""Pixels of each picture as shown; the PNG inside is as large as the candidate is."""
_STYLE = "margin:0;font:12px system-ui,sans-serif;text-align:center;"


def data_uri(image: Tensor) -> str:
    """A picture (3, H, W) in [0, 1] as a PNG in the text of a link: lossless, so that what is seen is what is proved."""
    data = io.BytesIO()
    to_pillow(image).save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def as_html(state: State, sure: Tensor | None) -> str:
    """A moment of an explorer: input, candidates with their stories, and the map of certainty (H, W), where there is one."""
    if state.problem is None:
        return "<p>No photo is open. <code>explorer.open(photo)</code> opens one.</p>"
    pictures = [(state.problem.lr, "input", True)]
    pictures += [(card.candidate.images[0], card.story, False) for card in state.cards]
    if sure is not None:
        pictures.append((heatmap(sure), "bright: certain", False))
    exact = sum(bool(card.candidate.exact[0]) for card in state.cards)
    said = (
        f"{exact} of {len(state.cards)} candidates shrink to the input, every byte. All detail beyond it is imagined."
    )
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:10px">'
        + "".join(_figure(*picture) for picture in pictures)
        + f'</div><p style="{_STYLE}text-align:left">{html.escape(said)}</p>'
    )


def _figure(image: Tensor, caption: str, small: bool) -> str:
    shown = "image-rendering:pixelated;" if small else ""
    caption = html.escape(caption)
    return (
        f'<figure style="{_STYLE}"><img src="{data_uri(image)}" alt="{caption}" width="{SIDE}" height="{SIDE}" style="{shown}">'
        f'<figcaption style="max-width:{SIDE}px">{caption}</figcaption></figure>'
    )
