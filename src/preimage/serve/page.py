"""The page's layout, and which handler follows which event."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from preimage.invert.controls import Control, controls_of
from preimage.invert.registry import list_methods, method_class
from preimage.semantics.labels import LABELS
from preimage.serve.actions import Actions
from preimage.serve.tabs import Tabs
from preimage.serve.view import CANVAS

HEAD = """<div id="head"><h1>preimage</h1>
<p>One blurry face, many sharp faces that could lie behind it. Each of them shrinks back to your very pixels;
everything else about it is imagined.</p></div>"""
EMPTY = """<div id="empty"><p><b>Drop a photo, or paste one.</b></p><p>A small picture of a face is what this is made for: 16 pixels a side
are enough. Of a larger photo you choose the face, which is reduced to that first.</p><p>You get as many candidates as you like, turn what
you like of each, and download files that prove themselves. Nothing leaves your machine.</p></div>"""
CERTAIN = (
    """<p class="hint">Bright: the candidates agree, your photo pins it down. Dark: they differ, it is imagined.</p>"""
)
OPEN = """<p class="hint">What tells the candidates of seeds apart shrinks to nothing, so a candidate may move along it and still be exact.
Such steps are sums of pixels that know nothing of faces: small ones look natural, large ones painted on.</p>"""
CAPTION = '<p class="caption">{}</p>'
PASTED = """<p class="hint">The photo is enlarged, the candidate resampled into it with a soft edge. What is proved byte for byte is the
candidate itself, not this picture.</p>"""
STEP = '<p class="step">{}</p>'
LEGEND = '<div class="legend">{}</div>'.format(
    "".join(f'<span><i style="background:rgb{label.colour}"></i>{label.name}</span>' for label in LABELS)
)
PNG: dict[str, Any] = {"format": "png", "type": "filepath"}
Parts = dict[str, Any]


def _photo(**given: Any) -> Any:
    """An image that is handed over as the file that was sent: whether it can be read is the explorer's question.

    No subclass of `gr.Image`: of those Gradio writes stubs beside their source.
    """
    made: Any = gr.Image(**(PNG | {"sources": ["upload", "clipboard"], "buttons": []} | given))
    made.preprocess = lambda payload: None if payload is None else payload.path
    return made


def build_page(tabs: Tabs, photo: str | None = None) -> gr.Blocks:
    """The page.

    Args:
        tabs: who is looking.
        photo: path of one that is open from the beginning.
    """
    with gr.Blocks(title="preimage", analytics_enabled=False, delete_cache=(1800, 7200)) as page:
        gr.HTML(HEAD, padding=False)
        parts: Parts = {}
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=280):
                _photo_column(parts, photo, tabs.method)
            with gr.Column(scale=9, min_width=280):
                _candidates_column(parts)
        actions = Actions(tabs, parts)
        _settings(parts, actions)
        _wire(page, parts, actions)
    return page


def _photo_column(parts: Parts, photo: str | None, method: str) -> None:
    gr.HTML(STEP.format("1 · Photo"), padding=False)
    parts["photo"] = _photo(value=photo, label="Drop or paste a photo", height=230, elem_id="photo")
    parts["imagine"] = gr.Button("No photo at hand? Imagine one", size="sm", elem_id="imagine")
    with gr.Column(visible=False) as parts["adjusting"]:
        with gr.Column(visible=False) as parts["crowd"]:
            parts["marked"] = gr.Image(
                show_label=False, interactive=False, elem_id="marked", buttons=[], container=False, **PNG
            )  # fmt: skip
            parts["marked-said"] = gr.HTML(padding=False)
            parts["dragged"] = gr.Textbox(elem_id="dragged", elem_classes="away", show_label=False, container=False)
        with gr.Row(elem_id="input", equal_height=True):
            parts["small"] = gr.Image(
                show_label=False, interactive=False, elem_id="small", buttons=[], container=False, min_width=90, scale=2, **PNG
            )  # fmt: skip
            with gr.Column(min_width=90, scale=3):
                parts["small-said"] = gr.HTML(padding=False)
        with gr.Accordion("Adjust the square", open=False):
            parts["x"] = gr.Slider(0, 100, 50, step=0.5, label="Centre, from the left", elem_id="square-x")
            parts["y"] = gr.Slider(0, 100, 50, step=0.5, label="Centre, from above", elem_id="square-y")
            parts["side"] = gr.Slider(4, 100, 50, step=0.5, label="Side, in pixels of the photo", elem_id="square-side")
            parts["turn"] = gr.Slider(-90, 90, 0, step=0.5, label="Turned, degrees", elem_id="square-turn")
            parts["pixels"] = gr.Slider(
                4, 64, 16, step=1, label="Reduced to so many pixels a side", elem_id="square-pixels"
            )
    gr.HTML(STEP.format("2 · Method"), padding=False)
    choices = list(dict.fromkeys([*list_methods(), method]))
    parts["method"] = gr.Dropdown(choices, value=method, elem_id="method", show_label=False, container=False)
    parts["method-said"] = gr.HTML(about_method(method), padding=False)
    with gr.Accordion("Settings", open=False) as parts["settings"]:
        parts["settings-here"] = gr.Column()
        parts["configure"] = gr.Button("Imagine again with these", size="sm", elem_id="configure")
    with gr.Accordion("A second photo", open=False) as parts["second"]:
        parts["guide"] = gr.Dropdown([], label="What is taken from it", elem_id="guide")
        parts["guide-photo"] = _photo(label="Drop or paste it", height=160)
        with gr.Row():
            parts["guide-do"] = gr.Button("Take it over", size="sm")
            parts["guide-no"] = gr.Button("Without it", size="sm")


def about_method(name: str) -> str:
    """What a method is, for people."""
    about = method_class(name).capabilities
    return f'<p class="hint">{escape(about.summary[:1].upper() + about.summary[1:])}. {escape(about.paper)}</p>'


def _candidates_column(parts: Parts) -> None:
    parts["empty"] = gr.HTML(EMPTY, padding=False)
    with gr.Column(visible=False) as parts["desk"]:
        gr.HTML(STEP.format("3 · Candidates"), padding=False)
        with gr.Row(elem_id="tools"):
            parts["draw"] = gr.Button("Imagine eight", variant="primary", size="md", elem_id="draw", min_width=140)
            parts["stop"] = gr.Button("Stop", variant="stop", size="md", visible=False, elem_id="stop", min_width=140)
            parts["pick"] = gr.Button("Most different of 64", size="md", elem_id="pick", min_width=190)
            parts["undo"] = gr.Button("↶ Undo", size="md", interactive=False, elem_id="undo", min_width=90)
            parts["redo"] = gr.Button("Redo ↷", size="md", interactive=False, elem_id="redo", min_width=90)
        parts["status"] = gr.HTML(elem_id="status", padding=False)
        parts["gallery"] = gr.Gallery(
            columns=4, allow_preview=False, object_fit="contain", format="png", show_label=False, elem_id="gallery", buttons=[],
            interactive=False, height="auto",
        )  # fmt: skip
        with gr.Row(visible=False, elem_id="files") as parts["files"]:
            parts["one"] = gr.DownloadButton("This picture", size="sm", elem_id="one")
            parts["all"] = gr.DownloadButton("All pictures (zip)", size="sm", elem_id="all")
            parts["results"] = gr.DownloadButton("Folder that proves them (zip)", size="sm", elem_id="results")
        with gr.Column(visible=False) as parts["looking"]:
            gr.HTML(STEP.format("4 · Look closer"), padding=False)
            parts["proof"] = gr.HTML(elem_id="proof", padding=False)
            with gr.Tabs(elem_id="tabs"):
                _looking_tabs(parts)


def _looking_tabs(parts: Parts) -> None:
    with gr.Tab("Compare"):
        parts["slider"] = gr.ImageSlider(
            label="Your input · the candidate", format="png", type="filepath", elem_id="look", interactive=False, buttons=["fullscreen"],
            max_height=600, show_label=False,
        )  # fmt: skip
    with gr.Tab("In the photo", visible=False) as parts["pasting"]:
        parts["pasted"] = gr.Image(
            show_label=False, interactive=False, elem_id="pasted", buttons=["download", "fullscreen"], **PNG
        )  # fmt: skip
        gr.HTML(PASTED, padding=False)
    with gr.Tab("Certainty"):
        parts["certain"] = gr.Image(show_label=False, interactive=False, elem_id="certain", buttons=[], **PNG)
        gr.HTML(CERTAIN, padding=False)
    with gr.Tab("Vary") as parts["varying"]:
        with gr.Row():
            parts["handle"] = gr.Dropdown([], label="What changes", elem_id="handle", min_width=200)
            parts["amount"] = gr.Slider(0, 1, 0.6, step=0.05, label="How far", elem_id="amount", min_width=200)
        parts["handle-help"] = gr.HTML(elem_classes="hint", padding=False)
        parts["likeness"] = _photo(label="The photo to take it from", visible=False, height=180)
        parts["vary"] = gr.Button("Vary this candidate", elem_id="vary")
    with gr.Tab("Paint", visible=False) as parts["painting"]:
        colours = ["#{:02x}{:02x}{:02x}".format(*label.colour) for label in LABELS]
        hair = next(i for i, label in enumerate(LABELS) if label.name == "hair")
        parts["canvas"] = gr.ImageEditor(
            type="pil", format="png", image_mode="RGBA", sources=[], transforms=(), layers=False, canvas_size=(CANVAS, CANVAS),
            fixed_canvas=True, brush=gr.Brush(default_size=9, colors=[*colours], default_color=colours[hair], color_mode="fixed"),
            show_label=False, height=560, elem_id="canvas", buttons=[],
        )  # fmt: skip
        gr.HTML(LEGEND, padding=False)
        parts["repaint"] = gr.Button("Answer with this map", elem_id="repaint")
    with gr.Tab("Left open") as parts["open"]:
        with gr.Row():
            parts["direction"] = gr.Dropdown(
                [], label="In what the candidates differ", elem_id="direction", min_width=200
            )
            parts["along"] = gr.Slider(-2, 2, 1, step=0.25, label="How far", elem_id="along", min_width=200)
        gr.HTML(OPEN, padding=False)
        parts["move"] = gr.Button("Move this candidate", elem_id="move")
    with gr.Tab("Between") as parts["between"]:
        parts["other"] = gr.Dropdown([], label="From this candidate to", elem_id="other")
        parts["walk"] = gr.Button("Show what lies between", elem_id="walk")


def _settings(parts: Parts, actions: Actions) -> None:
    """The settings of the method that is chosen, each as its kind; names of files are for the command line."""
    with parts["settings-here"]:

        @gr.render(inputs=[parts["method"]])  # type: ignore[untyped-decorator]
        def settings(method: str) -> None:
            for control in controls_of(method_class(method).presets["default"]):
                if control.kind != "file":
                    made = _setting(control)
                    made.change(actions.turning(control), made, None, show_progress="hidden", api_visibility="private")


def _setting(control: Control) -> Any:
    label, info = control.name.replace("_", " "), control.help[:1].upper() + control.help[1:]
    if control.kind == "switch":
        found: Any = gr.Checkbox(control.default, label=label, info=info, interactive=True)
    elif control.kind == "choice":
        found = gr.Dropdown(list(control.choices), value=control.default, label=label, info=info, interactive=True)
    elif control.kind == "several":
        found = gr.CheckboxGroup(
            list(control.choices), value=list(control.default), label=label, info=info, interactive=True
        )
    elif control.kind in ("text", "numbers"):
        value = control.default if control.kind == "text" else ", ".join(map(str, control.default))
        found = gr.Textbox(value, label=label, info=info, interactive=True, max_lines=1)
    elif control.low is not None and control.high is not None:
        step = 1 if control.kind == "whole" else 0.05
        found = gr.Slider(
            control.low, control.high, control.default, step=step, label=label, info=info, interactive=True
        )
    else:
        found = gr.Number(
            control.default, label=label, info=info, interactive=True, precision=0 if control.kind == "whole" else None
        )
    return found


def _wire(page: gr.Blocks, parts: Parts, actions: Actions) -> None:
    shown = [part for name, part in parts.items() if name not in ("photo", "method", "method-said", "settings-here")]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    square = [parts[name] for name in ("x", "y", "side", "turn", "pixels")]
    handle = [parts[name] for name in ("amount", "likeness", "handle-help")]
    guides = [parts[name] for name in ("handle", "guide", "second")]

    anew: dict[str, Any] = quiet | {"trigger_mode": "multiple"}  # also while what the last one asked for is being drawn
    parts["photo"].upload(actions.opened, parts["photo"], shown, **anew)
    parts["imagine"].click(actions.imagined, None, shown, **anew)
    parts["marked"].select(actions.pointed, None, shown, **anew)
    parts["dragged"].input(actions.dragged, parts["dragged"], shown, **anew)
    for slider in square:
        slider.release(actions.adjusted, square, shown, **anew)
    parts["method"].input(actions.method, parts["method"], shown, **anew)
    parts["method"].input(about_method, parts["method"], parts["method-said"], **quiet)
    parts["method"].input(actions.handles, None, guides, **quiet)
    parts["configure"].click(actions.configured, None, shown, **anew)
    parts["guide-do"].click(actions.guided, [parts["guide"], parts["guide-photo"]], shown, **quiet)
    parts["guide-no"].click(actions.unguided, parts["guide"], shown, **quiet)

    parts["draw"].click(actions.drawn, None, shown, **quiet)
    parts["pick"].click(actions.picked, None, shown, **quiet)
    parts["pasting"].select(actions.pasted, None, parts["pasted"], **quiet)
    parts["stop"].click(actions.stopped, None, None, queue=False, **quiet)
    parts["undo"].click(actions.undone, None, shown, **anew)
    parts["redo"].click(actions.redone, None, shown, **anew)
    parts["gallery"].select(actions.chosen, None, shown, **quiet)
    parts["handle"].change(actions.handle, parts["handle"], handle, **quiet)
    parts["vary"].click(actions.steered, [parts["handle"], parts["amount"], parts["likeness"]], shown, **quiet)
    parts["repaint"].click(actions.repainted, parts["canvas"], shown, **quiet)
    parts["open"].select(actions.opened_directions, None, parts["direction"], **quiet)
    parts["move"].click(actions.moved, [parts["direction"], parts["along"]], shown, **quiet)
    parts["walk"].click(actions.between, parts["other"], shown, **quiet)

    page.load(actions.handles, None, guides, **quiet)
    page.load(actions.opened, parts["photo"], shown, **quiet)
    page.unload(actions.left)


def theme() -> Any:
    """Calm: neutral paper, one warm accent, the system's own letters (none are fetched)."""
    made = gr.themes.Base(
        primary_hue=gr.themes.colors.amber,
        secondary_hue=gr.themes.colors.amber,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_lg,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    )
    return made.set(
        body_background_fill="*neutral_50",
        block_background_fill="white",
        button_primary_text_color="*neutral_950",
        button_primary_text_color_dark="*neutral_950",
        button_primary_background_fill="*primary_400",
        button_primary_background_fill_hover="*primary_300",
        button_primary_background_fill_dark="*primary_400",
        button_primary_background_fill_hover_dark="*primary_300",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        button_border_width="1px",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
    )


def style() -> str:
    """The page's own CSS."""
    return (Path(__file__).parent / "page.css").read_text()


def script() -> str:
    """What the page does by itself while a finger is down, for the head of its HTML."""
    return f"<script>{(Path(__file__).parent / 'page.js').read_text()}</script>"
