"""The detectors by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import cast

from preimage.errors import MethodError
from preimage.faces.face import Detector
from preimage.faces.turned import Turned
from preimage.faces.yunet import YuNet

DEFAULT = "mtcnn"
DETECTORS: dict[str, str] = {
    "mtcnn": "preimage.faces.mtcnn:Mtcnn",
    "yunet": "preimage.faces.yunet:YuNet",
    "uniface": "preimage.faces.uniface:Uniface",
}
"""Detectors by name; an ONNX file of YuNet is named by its path."""


def load_detector(detector: str | Path | Detector = DEFAULT) -> Detector:
    """A detector by its name or file, which looks at each photo turned as well (`preimage.faces.turned`).

    Args:
        detector: of `DETECTORS`; the path of a YuNet (.onnx); or one that is loaded, which comes back.

    Raises:
        MethodError: there is none of this name.
        WeightsError: its files or packages are missing; the message says how to get them.
    """
    if callable(detector):
        return detector
    name = str(detector)
    if name in DETECTORS:
        module, _, kind = DETECTORS[name].partition(":")
        found = cast(Detector, getattr(import_module(module), kind)())
    elif name.endswith(".onnx"):
        found = YuNet(name)
    else:
        raise MethodError(
            f"there is no detector {name!r:.60}; there are {', '.join(DETECTORS)}, or give the .onnx file of a YuNet."
        )
    return Turned(found)
