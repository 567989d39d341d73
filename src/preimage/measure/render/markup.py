"""Pieces of the page: escaped text, numbers for the eye, tables, pictures. What comes from outside goes through `safe`."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from html import escape

from torch import Tensor

from preimage.errors import InputError
from preimage.image import to_pillow
from preimage.measure.render.tables import number
from preimage.measure.report import Published
from preimage.sheet import heatmap


def safe(text: str) -> str:
    """Text from outside, on one line, fit for HTML."""
    return escape(" ".join(text.split()))


def numeral(text: str) -> str:
    """Numbers for the eye: a true minus, powers of ten, infinity; a dash for what is not defined."""
    text = text.replace("inf", "∞").replace("-", "−") if text != "-" else "–"
    return re.sub(r"(?<=\d)e(−?)0*(\d+)", r"×10<sup>\1\2</sup>", text)


def bullets(items: Sequence[str]) -> str:
    """A list of HTML; empty for none."""
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>" if items else ""


def html_table(caption: str, head: Sequence[str], body: Sequence[Sequence[str]], kind: str, left: int = 1) -> str:
    """A table in a box of its own that scrolls.

    Args:
        caption, head, body: HTML; the first cell of each row heads it.
        kind: CSS class.
        left: how many columns are text; the others are numbers.
    """
    heads = "".join(f'<th scope="col"{_right(i, left)}>{text}</th>' for i, text in enumerate(head))
    lines = [
        f'<tr><th scope="row">{line[0]}</th>'
        + "".join(f"<td{_right(i, left)}>{text}</td>" for i, text in enumerate(line[1:], start=1))
        + "</tr>"
        for line in body
    ]
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table"><table class="{kind}">'
        f"<caption><span>{caption}</span></caption>"
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody></table></div>"
    )


def _right(column: int, left: int) -> str:
    return ' class="n"' if column >= left else ""


def figures(published: Sequence[tuple[Published, int]]) -> str:
    """What papers print, each with its method and a link to its footnote."""
    return "".join(
        f"<div>{numeral(number(p.value) if abs(p.value) >= 1e6 else f'{p.value:g}')}"
        f'<small>{safe(p.method)}, <a href="#note-{note}">note {note}</a></small></div>'
        for p, note in published
    )


def definitions(pairs: Sequence[tuple[str, str]]) -> str:
    """Names with what they are, both texts; empty for none."""
    return f"<dl>{''.join(f'<dt>{safe(k)}</dt><dd>{safe(v)}</dd>' for k, v in pairs)}</dl>" if pairs else ""


def picture_cell(image: Tensor, caption: str, alt: str, kind: str = "") -> str:
    """A picture (3, H, W) or numbers (H, W) as a heat map, at native size, with its caption."""
    try:
        picture = to_pillow(heatmap(image) if image.ndim == 2 else image)
    except InputError:
        seen = '<div class="unseen">holds NaN or is no picture</div>'
    else:
        file = io.BytesIO()
        picture.save(file, format="PNG", optimize=True)
        data = base64.b64encode(file.getvalue()).decode()
        size = f'width="{picture.width}" height="{picture.height}"'
        seen = f'<img src="data:image/png;base64,{data}" {size} alt="{safe(alt)}">'
    return f'<figure class="{kind}">{seen}<figcaption>{safe(caption)}</figcaption></figure>\n'
