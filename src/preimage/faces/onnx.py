"""Networks of others in ONNX files, run by onnxruntime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from preimage.errors import WeightsError

INSTALL = 'pip install "preimage[faces]"'
BY_HAND = "or say where the face is (--points), or that the picture is one (--aligned)"


def open_onnx(path: str | Path, outputs: tuple[str, ...]) -> Any:
    """A session of a network that gives at least these outputs.

    Raises:
        WeightsError: no such file, not this network, or onnxruntime is not installed.
    """
    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such file. Give the path of the detector's ONNX file.")
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError:
        raise WeightsError(f"finding faces needs onnxruntime, which is not installed; {INSTALL}, {BY_HAND}.") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, without a common base
        raise WeightsError(f"{path}: not a readable ONNX file ({error!s:.200}); fetch it again.") from error
    found = {port.name for port in session.get_outputs()}
    if missing := sorted(set(outputs) - found):
        raise WeightsError(f"{path}: no face detector that is known here; it has no output {', '.join(missing)}.")
    return session
