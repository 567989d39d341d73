"""LPIPS: how different two pictures look, by the features of a classifier (Zhang et al., 2018, arXiv:1801.03924).

The published metric is a trunk (AlexNet, VGG-16 or SqueezeNet 1.1 as torchvision trained them) and heads of some hundred numbers
(version 0.1). Trunks are read from files (`feature_networks`); the heads come with torchmetrics. With a trunk of another training
the ranking is much the same and the value is not; its name carries a star, and it is comparable with itself only.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.errors import InputError, MethodError, WeightsError
from preimage.feature_networks import NETWORKS, load_network, weights_folder
from preimage.measure.metric import Metric
from preimage.nets.features import FeatureNetwork, SqueezeNet
from preimage.nets.trunks import SqueezeNet11

TRUNKS = {"alex": "alex", "vgg": "vgg16", "squeeze": "squeeze"}
"""The three published variants and the entries of `feature_networks.NETWORKS` they look through."""
STAND_IN = "squeezenet11-keras"
"""Another training of SqueezeNet 1.1, for `lpips-squeeze*`."""

_PIXELS = 2**19  # of one picture of each pair in a step, to bound memory


class LPIPS(nn.Module):
    """Perceptual distance of pairs of pictures through a trunk and its heads.

    At every tap the features of both pictures are scaled to unit length along the channels, subtracted and squared; the head
    weighs the channels (Zhang et al., 2018, eq. 1). Not a training loss: no gradients are kept.

    Args:
        trunk: the feature network, RGB in [0, 1] in.
        heads: per tap the weights of its channels, of any shape with that many elements.

    Raises:
        WeightsError: heads that do not fit the trunk.
    """

    def __init__(self, trunk: FeatureNetwork, heads: Sequence[Tensor]):
        super().__init__()
        if tuple(head.numel() for head in heads) != trunk.channels:
            raise WeightsError(
                f"LPIPS: heads of {', '.join(str(head.numel()) for head in heads)} channels do not fit a "
                f"{type(trunk).__name__} with taps of {', '.join(map(str, trunk.channels))}; take those of this trunk."
            )
        self.trunk = trunk
        for i, head in enumerate(heads):
            self.register_buffer(f"head{i}", head.detach().float().reshape(1, -1, 1, 1))
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def maps(self, a: Tensor, b: Tensor) -> Tensor:
        """Where two pictures differ: the maps of all taps, enlarged bilinearly to the pictures' size and summed.

        Args:
            a, b: (n, 3, H, W), RGB in [0, 1]; the order makes no difference.

        Returns:
            (n, 1, H, W), 0 or more. Its mean is near `distance`, but not equal: enlarging weighs the borders otherwise.

        Raises:
            InputError: pictures of different or wrong shapes, or too small for the trunk.
        """
        size = a.shape[-2:]
        steps = [
            torch.stack([F.interpolate(m, size, mode="bilinear", align_corners=False) for m in taps]).sum(0)
            for taps in self._steps(a, b)
        ]
        return torch.cat(steps)

    @torch.no_grad()
    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """How different two pictures look: the spatial means of the taps' maps, summed.

        Args:
            a, b: (n, 3, H, W), RGB in [0, 1]; the order makes no difference.

        Returns:
            (n,), 0 for equal pictures.

        Raises:
            InputError: see `maps`.
        """
        return torch.cat([torch.stack([m.mean(dim=(1, 2, 3)) for m in taps]).sum(0) for taps in self._steps(a, b)])

    def _steps(self, a: Tensor, b: Tensor) -> list[list[Tensor]]:
        """Maps (n, 1, h, w) per tap, for as many pictures at a time as memory allows."""
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3 or not len(a):
            raise InputError(
                f"LPIPS: needs two batches of one shape (n, 3, H, W), got {tuple(a.shape)} and {tuple(b.shape)}."
            )
        if min(a.shape[-2:]) < self.trunk.smallest:
            raise InputError(
                f"LPIPS: pictures of {a.shape[-1]}x{a.shape[-2]} are too small for {type(self.trunk).__name__}, which needs "
                f"{self.trunk.smallest} pixels or more on either side."
            )
        count = max(1, _PIXELS // (a.shape[-1] * a.shape[-2]))
        return [self._taps(x, y) for x, y in zip(torch.split(a, count), torch.split(b, count), strict=True)]

    def _taps(self, a: Tensor, b: Tensor) -> list[Tensor]:
        features = self.trunk(torch.cat([a, b]).to(self.get_buffer("head0").device, torch.float32))
        out = []
        for i, f in enumerate(features):
            unit = f / (f.square().sum(1, keepdim=True).sqrt() + 1e-10)
            first, second = unit.chunk(2)
            out.append(F.conv2d((first - second).square(), self.get_buffer(f"head{i}")))
        return out


def published_heads(which: str) -> list[Tensor]:
    """The published heads, version 0.1, of "alex", "vgg" or "squeeze": per tap (1, channels, 1, 1).

    Raises:
        MethodError: another name.
        WeightsError: torchmetrics, which ships them, is not installed.
    """
    _check(which)
    found = importlib.util.find_spec("torchmetrics")  # finds the folder, imports nothing
    folders = list(found.submodule_search_locations or ()) if found else []
    path = Path(folders[0] if folders else "torchmetrics", "functional", "image", "lpips_models", f"{which}.pth")
    if not path.is_file():
        raise WeightsError(f"{path}: LPIPS's heads come with torchmetrics; run `pip install 'preimage[measure]'`.")
    state = torch.load(path, map_location="cpu", weights_only=True)
    return [state[f"lin{i}.model.1.weight"] for i in range(len(state))]


def _check(which: str) -> None:
    if which not in TRUNKS:
        raise MethodError(f"LPIPS: no trunk {which!r}; there are {', '.join(TRUNKS)}.")


def load_lpips(
    which: str = "alex",
    folder: str | Path | None = None,
    weights: str | Path | None = None,
    download: bool = False,
) -> LPIPS:
    """The perceptual distance of one trunk; `trunk.official` says whether it is the published one.

    Args:
        which: "alex", "vgg" or "squeeze". Where the published file of SqueezeNet is absent and the stand-in is there, "squeeze"
            takes that.
        folder: where trunks are, see `feature_networks.weights_folder`.
        weights: path or hub id of a trunk of this architecture, instead of the folder's file.
        download: whether a missing trunk may be fetched from the hub.

    Raises:
        MethodError: another name.
        WeightsError: no such trunk (the message says how to get it), or one of another architecture.
    """
    _check(which)
    entry = NETWORKS[TRUNKS[which]]
    source = str(weights or entry.name)
    if source == "squeeze":
        published, stand_in = (weights_folder(folder) / NETWORKS[name].file for name in (source, STAND_IN))
        source = STAND_IN if stand_in.is_file() and not published.is_file() else source
    trunk = load_network(source, folder, download)
    if which == "squeeze" and isinstance(trunk, SqueezeNet):
        trunk.select(SqueezeNet11.taps)
    elif not isinstance(trunk, entry.network):
        raise WeightsError(f"{source}: a {type(trunk).__name__}; lpips-{which} looks through {entry.network.__name__}.")
    return LPIPS(trunk, published_heads(which))


def lpips_metric(
    which: str = "alex",
    folder: str | Path | None = None,
    weights: str | Path | None = None,
    download: bool = False,
) -> Metric:
    """LPIPS as a metric, named `lpips-alex`, `lpips-vgg` or `lpips-squeeze`; with a star where the trunk is not the published one.

    Args and errors: see `load_lpips`.
    """
    lpips = load_lpips(which, folder, weights, download)
    official = lpips.trunk.official
    return Metric(
        name=f"lpips-{which}" + ("" if official else "*"),
        values=lpips.distance,
        lower_is_better=True,
        summary="How different two pictures look to a classifier of photographs."
        + ("" if official else " A trunk of another training: not comparable with published LPIPS values."),
        source=f"Zhang et al., 2018, eq. 1; heads 0.1, {type(lpips.trunk).__name__}"
        + ("" if official else " of another training than the published one"),
        smallest=lpips.trunk.smallest,
    )
