"""Settings as data for an interface."""

from __future__ import annotations

from dataclasses import fields

import pytest

from preimage.invert.controls import controls_of
from preimage.invert.registry import METHODS, method_class


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_is_told_and_lies_in_its_range(name):
    settings = method_class(name).presets["default"]
    found = {control.name: control for control in controls_of(settings)}
    assert found.keys() == {f.name for f in fields(settings)}
    for control in found.values():
        assert control.help, f"{control.name} has no help"
        assert control.default == getattr(settings, control.name)
        settings.with_({control.name: control.default})
        if control.kind == "several":
            assert set(control.default) <= set(control.choices)
        if control.kind == "choice":
            assert control.default in control.choices
        if control.low is not None:
            assert control.low <= control.default


def test_kinds_are_those_of_the_fields():
    found = {c.name: c for c in controls_of(method_class("pulse").presets["default"])}
    assert [found[n].kind for n in ("steps", "lr", "tied", "loss", "edit", "directions", "silent_noise")] == [
        "whole",
        "number",
        "switch",
        "choice",
        "text",
        "file",
        "numbers",
    ]
    fresh = next(c for c in controls_of(method_class("posterior").presets["default"]) if c.name == "fresh")
    assert (fresh.kind, fresh.choices) == ("several", ("outline", "detail", "texture"))
    assert found["spread"].help.startswith("how far from the mean latent")
