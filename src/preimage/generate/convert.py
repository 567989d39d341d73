"""Foreign checkpoints of generators -> safetensors that say what they are; nothing in a file is executed.

    preimage models convert ffhq.pkl -o ffhq.safetensors --licence "CC BY-NC 4.0"

Whose file it is shows from the names of its tensors, the shape of the network from theirs. What comes out is a prior like any
other, in half precision, and keeps the name and sha256 of the file it came from.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from preimage.errors import WeightsError
from preimage.generate import layouts_progan, layouts_stylegan, layouts_stylegan2
from preimage.generate.foreign import what_else
from preimage.generate.layout import Layout, Ported
from preimage.pickles import Checkpoint, read_checkpoint
from preimage.weights import ARCHITECTURES, FORMAT, save_prior, sha256

LAYOUTS: tuple[Layout, ...] = (*layouts_stylegan2.LAYOUTS, *layouts_stylegan.LAYOUTS, *layouts_progan.LAYOUTS)
"""Every layout that can be converted; the first that matches is taken."""

UNCONFIRMED = "not stated; confirm it"
_GENERATOR = r"(.+\.)?(G_ema|Gs)\."
_FIXED: tuple[tuple[str, str | float], ...] = (
    (r"(.+\.)?mapping_kwargs\.lr_multiplier|static_kwargs\.mapping_lrmul|mapping\.fc\d+\.bias_gain", 0.01),
    (r"(.+\.)?(mapping|synthesis)_kwargs\.activation|static_kwargs\.(mapping_)?nonlinearity", "lrelu"),
    (r"mapping\.fc\d+\.activation|synthesis\.b\d+\.conv[01]\.activation", "lrelu"),
)
"""Settings that leave no trace in the shapes, by their names in NVIDIA's pickles, and what they are in every published one."""


def convert_prior(
    path: str | Path,
    out: str | Path,
    name: str | None = None,
    licence: str = UNCONFIRMED,
    checkpoint: Checkpoint | None = None,
) -> Path:
    """Turn a foreign checkpoint of a generator into a prior of ours.

    Args:
        path: the file, of a layout in `LAYOUTS`.
        out: the safetensors file, or a folder. Replaced at once or not at all.
        name: of the prior, for provenance; default: the name of the file written.
        licence: of the weights, as the user confirms it.
        checkpoint: what `read_checkpoint` gave, where the file is already read.

    Returns:
        The file written.

    Raises:
        WeightsError: no such file, a damaged or hostile one, or one of no known generator; the message says what it is.
        OutputError: the result cannot be written.
    """
    path = Path(path).expanduser()
    checkpoint = checkpoint or read_checkpoint(path)
    out = Path(out).expanduser()
    out = out / f"{path.stem}.safetensors" if out.is_dir() else out
    if out.resolve() == path.resolve():
        raise WeightsError(f"{path}: would be replaced by its own conversion; name another file with -o.")
    if checkpoint.about.get("format") == FORMAT:
        raise WeightsError(f"{path}: already a prior of this package; give it to --prior as it is.")
    try:
        layout = find_layout(checkpoint)
        ported = layout.port(checkpoint.tensors)
        prior = _build(ported, name or out.stem)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise WeightsError(
            f"{path}: a generator of a known kind whose tensors do not fit together ({reason}). The file is incomplete, or a "
            "variant; take the published one."
        ) from None
    trained = {
        "source": path.name,
        "source_sha256": sha256(path),
        "source_kind": checkpoint.kind,
        "layout": layout.name,
        "notes": list(ported.notes),
    }
    save_prior(out, prior, trained, licence)
    return out


def find_layout(checkpoint: Checkpoint) -> Layout:
    """How a checkpoint is laid out.

    Raises:
        WeightsError: in no known way, or with settings that leave no trace in the shapes and are unknown here.
    """
    found = next((layout for layout in LAYOUTS if layout.matches(checkpoint.tensors)), None)
    if found is None:
        raise WeightsError(what_else(checkpoint.tensors))
    for key, value in checkpoint.about.items():
        for setting, known in _FIXED:
            if value != known and re.fullmatch(f"{_GENERATOR}({setting})", key):
                raise WeightsError(
                    f"a generator of an unusual kind: {key} is {value!r}, and only {known!r} is known here."
                )
    return found


def _build(ported: Ported, name: str) -> nn.Module:
    """The prior as it will be read again: in half precision, complete, and able to make pictures."""
    if ported.architecture not in ARCHITECTURES:
        raise WeightsError(f"needs the architecture {ported.architecture!r}, which this version does not know.")
    state: dict[str, Tensor] = {key: value.detach().half().float() for key, value in ported.state.items()}
    bad = [key for key, value in state.items() if not bool(value.isfinite().all())]
    if bad:
        raise WeightsError(
            f"{bad[0]} holds NaN, or numbers beyond half precision; the file is damaged, or its training failed."
        )
    prior: Any = ARCHITECTURES[ported.architecture](ported.config, name)
    prior.load_state_dict(state)
    prior.eval().requires_grad_(False)
    with torch.no_grad():
        picture: Tensor = prior.sample([0])
    if not bool(picture.isfinite().all()):
        raise WeightsError("makes pictures with NaN; the file is damaged, or its training failed.")
    module: nn.Module = prior
    return module
