"""The file format of preimage's networks: safetensors that say which architecture, configuration and training they hold.

Nothing in a file is ever executed: an architecture is looked up by name in `ARCHITECTURES`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from preimage.errors import WeightsError

FORMAT = "preimage-1"


def sha256(path: Path) -> str:
    """Hash of a file, hexadecimal."""
    if not path.is_file():
        raise WeightsError(f"{path}: missing. Reinstall preimage, or give the path of a safetensors file.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stylegan2(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.generate.stylegan2 import StyleGAN2, StyleGAN2Config

    return StyleGAN2(StyleGAN2Config(**config), name)


def _progan(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.generate.progan import ProGAN, ProGANConfig

    return ProGAN(ProGANConfig(**config), name)


def _stylegan(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.generate.stylegan import StyleGAN, StyleGANConfig

    return StyleGAN(StyleGANConfig(**config), name)


def _degradation_gan(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.degrade.degradation_gan import DegradationGAN, DegradationGANConfig

    return DegradationGAN(DegradationGANConfig(**config), name)


ARCHITECTURES: dict[str, Callable[[dict[str, Any], str], nn.Module]] = {
    "stylegan2": _stylegan2,
    "stylegan": _stylegan,
    "progan": _progan,
    "degradation-gan": _degradation_gan,
}


def read_metadata(path: Path) -> dict[str, Any]:
    """What a preimage safetensors file says about itself.

    Raises:
        WeightsError: not a safetensors file, or not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: not a readable safetensors file ({error}). Pickled checkpoints (.pt, .pth, .pkl) are never loaded; "
            "they have to be converted first."
        ) from None
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path}: a safetensors file, but not one that preimage wrote; it does not say what network it is."
        )
    try:
        return {k: json.loads(v) if k in ("config", "trained") else v for k, v in metadata.items()}
    except ValueError as error:
        raise WeightsError(f"{path}: its description is damaged ({error}). Fetch or export it again.") from None


def read_module(path: Path) -> nn.Module:
    """Build the module that a file describes and fill it, in float32."""
    from safetensors.torch import load_file

    metadata = read_metadata(path)
    architecture = metadata.get("architecture", "")
    if architecture not in ARCHITECTURES:
        raise WeightsError(
            f"{path}: architecture {architecture!r} is unknown; this version knows {', '.join(ARCHITECTURES)}."
        )
    try:
        module = ARCHITECTURES[architecture](metadata["config"], metadata.get("name", path.stem))
        module.load_state_dict({k: v.float() for k, v in load_file(str(path)).items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path}: its tensors do not fit the {architecture} it describes. {error}") from None
    return module


def save_prior(
    path: Path,
    prior: Any,
    trained: dict[str, Any],
    licence: str = "CC BY-NC 4.0",
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a prior with everything that is needed to rebuild and to judge it.

    Args:
        path: safetensors file; replaced at once or not at all.
        prior: a module with `metadata()` -> {"architecture", "config"}, and a `name`.
        trained: recipe, images seen, data.
        licence: of the weights.
        dtype: of the tensors in the file; they are read as float32.
    """
    from safetensors.torch import save

    from preimage.files import write_bytes_atomic

    about = prior.metadata()
    metadata = {
        "format": FORMAT,
        "name": prior.name,
        "architecture": about["architecture"],
        "config": json.dumps(about["config"]),
        "trained": json.dumps(trained),
        "licence": licence,
    }
    state = {k: v.detach().cpu().to(dtype).contiguous() for k, v in prior.state_dict().items()}
    write_bytes_atomic(path, save(state, metadata))
