"""Foreign checkpoints of generators -> safetensors that say what they are; nothing in a file is executed.

    preimage models convert ffhq.pkl -o ffhq.safetensors --licence "CC BY-NC 4.0"

Whose file it is shows from the names of its tensors, the shape of the network from theirs. What comes out is a prior like any
other, in half or full precision, and keeps the name and sha256 of the file it came from.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from preimage.errors import WeightsError
from preimage.port import layouts_progan, layouts_rosinality, layouts_stylegan, layouts_stylegan2
from preimage.port.foreign import what_else
from preimage.port.layout import Layout, Ported, Settings, misfit
from preimage.port.pickles import MOST_MESSAGE, Checkpoint, read_checkpoint
from preimage.readable import UnreadableError, why_unreadable
from preimage.texts import one_line
from preimage.weight_files import ARCHITECTURES, FORMAT, save_prior, sha256

LAYOUTS: tuple[Layout, ...] = (
    *layouts_stylegan2.LAYOUTS,
    *layouts_rosinality.LAYOUTS,
    *layouts_stylegan.LAYOUTS,
    *layouts_progan.LAYOUTS,
)
"""Every layout that can be converted; the first that matches is taken."""

UNCONFIRMED = "not stated; confirm it"


def convert_prior(
    path: str | Path,
    out: str | Path,
    name: str | None = None,
    licence: str = UNCONFIRMED,
    checkpoint: Checkpoint | None = None,
    *,
    half: bool = True,
    mapping: str | Path | None = None,
    lr_mlp: float | None = None,
) -> Path:
    """Turn a foreign checkpoint of a generator into a prior of ours.

    Args:
        path: the file, of a layout in `LAYOUTS`.
        out: the safetensors file, or a folder. Replaced at once or not at all.
        name: of the prior, for provenance; default: the name of the file written.
        licence: of the weights, as the user confirms it.
        checkpoint: what `read_checkpoint` gave, where the file is already read.
        half: store half precision, which halves the file and may move a pixel by a grey level; else float32.
        mapping: the file with the mapping network, where the generator was published in two.
        lr_mlp: learning rate that the mapping network of rosinality's layout, or of a decoder of pSp, e4e or ReStyle, was
            trained with, relative to the rest. Such files do not say it; None takes their 0.01 and notes that it was assumed.

    Returns:
        The file written.

    Raises:
        WeightsError: no such file, a damaged or hostile one, or one of no known generator; the message says what it is. Or
            `lr_mlp` is no positive number, or of another layout.
        OutputError: the result cannot be written.
    """
    path = Path(os.path.expanduser(path))
    checkpoint = checkpoint or read_checkpoint(path)
    other = read_checkpoint(mapping) if mapping is not None else None
    label = f"{path} with {other.path}" if other else f"{path}"
    out = Path(out).expanduser()
    out = out / f"{path.stem}.safetensors" if out.is_dir() else out
    for source in (path, *([other.path] if other else [])):
        if out.resolve() == source.resolve():
            raise WeightsError(f"{source}: would be replaced by its own conversion; name another file with -o.")
    if checkpoint.about.get("format") == FORMAT:
        raise WeightsError(f"{path}: already a prior of this package; give it to --prior as it is.")
    try:
        whole = _joined(checkpoint, other) if other else checkpoint
        layout = find_layout(whole)
        ported = layout.port(whole.tensors, Settings(whole.about, lr_mlp))
        prior = _build(ported, name or out.stem, half)
    except WeightsError as error:
        raise WeightsError(f"{label}: {one_line(error, MOST_MESSAGE)}") from None
    except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        if reason := why_unreadable(error):
            raise UnreadableError(f"{label}: {reason}") from None
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else one_line(error)
        raise WeightsError(
            f"{label}: a generator of a known kind whose tensors do not fit together ({reason}). The file is incomplete, or a "
            "variant; take the published one."
        ) from None
    trained = {
        "source": path.name,
        "source_sha256": sha256(path),
        "source_kind": checkpoint.kind,
        **({"mapping": other.path.name, "mapping_sha256": sha256(other.path)} if other else {}),
        "layout": layout.name,
        "precision": "fp16" if half else "fp32",
        "notes": list(ported.notes),
    }
    save_prior(out, prior, trained, licence, torch.float16 if half else torch.float32)
    return out


def _joined(synthesis: Checkpoint, mapping: Checkpoint) -> Checkpoint:
    """The two halves of a StyleGAN as one checkpoint."""
    layout = next((layout for layout in LAYOUTS if layout.matches(synthesis.tensors)), None)
    if layout is not None and layout not in layouts_stylegan.LAYOUTS:
        raise WeightsError(f"holds a whole generator ({layout.name}), which needs no second file; leave --mapping out.")
    halves = {"synthesis": synthesis.tensors, "mapping": mapping.tensors}
    return replace(
        synthesis, tensors={f"{half}.{key}": value for half, ts in halves.items() for key, value in ts.items()}
    )


def find_layout(checkpoint: Checkpoint) -> Layout:
    """How a checkpoint is laid out.

    Raises:
        WeightsError: in no known way.
    """
    found = next((layout for layout in LAYOUTS if layout.matches(checkpoint.tensors)), None)
    if found is None:
        raise WeightsError(what_else(checkpoint.tensors))
    return found


def _build(ported: Ported, name: str, half: bool) -> nn.Module:
    """The prior as it will be read again: in its precision, complete, and able to make pictures."""
    if ported.architecture not in ARCHITECTURES:
        raise WeightsError(f"needs the architecture {ported.architecture!r}, which this version does not know.")
    state: dict[str, Tensor] = {key: value.detach().float() for key, value in ported.state.items()}
    _check_finite(state, "NaN or infinity; the file is damaged, or its training failed.")
    if half:
        state = {key: value.half().float() for key, value in state.items()}
        _check_finite(state, "numbers beyond half precision; convert it with --precision fp32.")
    prior: Any = ARCHITECTURES[ported.architecture](ported.config, name)
    if reason := misfit(prior.state_dict(), state):
        raise WeightsError(
            f"a generator of a known kind whose tensors do not fit together: {reason}. The file is incomplete, or a variant; "
            "take the published one."
        )
    prior.load_state_dict(state)
    prior.eval().requires_grad_(False)
    with torch.no_grad():
        picture: Tensor = prior.sample([0])
    if not bool(picture.isfinite().all()):
        raise WeightsError("makes pictures with NaN; the file is damaged, or its training failed.")
    module: nn.Module = prior
    return module


def _check_finite(state: dict[str, Tensor], what: str) -> None:
    bad = next((key for key, value in state.items() if not bool(value.isfinite().all())), None)
    if bad is not None:
        raise WeightsError(f"{bad} holds {what}")
