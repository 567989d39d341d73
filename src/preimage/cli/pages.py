"""The command that opens a page: explore."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import ActionYesNo, ArgumentParser, Namespace

from preimage.invert.registry import DEFAULT, list_methods


def explore_options(p: ArgumentParser, argv: Sequence[str]) -> None:
    p.add_argument("photo", nargs="?", default=None, help="open from the beginning; else drop one on the page")
    p.add_argument("--method", default=DEFAULT, help=f"to begin with: {', '.join(list_methods())}")
    p.add_argument("--detector", default="mtcnn", help="what finds faces: mtcnn, uniface, or the .onnx file of a YuNet")
    p.add_argument("--port", type=int | None, default=None, help="default: the first free one from 7860")
    p.add_argument("--host", default="127.0.0.1", help="whom to answer; anything but this machine needs a password")
    p.add_argument("--password", type=str | None, default=None, help="which the page asks for, with any name")
    p.add_argument("--browser", action=ActionYesNo(no_prefix="no-"), default=True, help="open the page in a browser")


def explore(options: Namespace) -> int:
    """A page on this machine: drop a photo, look at many candidates, steer them."""
    from preimage.serve.server import serve

    given = options.as_dict()
    serve(given.pop("photo"), **given)
    return 0
