"""SSRVAE's super-resolution network (Ma et al., 2019, section 3.2): residual blocks that look at the whole photo, then at windows.

The paper leaves open: widths, what enlarges, and where inside a residual block the attention stands (`PLACES`), in either kind of
block with a skip of its own and a scalar (equation 9). Second convolutions begin at 0, so that every block begins as the identity,
and networks with and without attention as the same function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.bounds import DEEPEST, WIDEST, check_whole
from preimage.errors import WeightsError
from preimage.nets.upscaler import Upscaler, UpscalerConfig, conv, shuffled

ATTENTION = ("both", "global", "local", "none")
PLACES = ("behind", "between")
"""Of the attention in a block. Behind the second convolution it looks at what the block adds, next to nothing at first, and its scalar
begins at 0. Between the convolutions it looks at features, brought to unit size where they are compared, and its scalar begins at 1."""
STRIP = 128 * 128
"""Places whose windows are weighed at once; larger photos are evaluated in strips of rows, with the same result."""
FAINT = 1e-6  # mean square of features that tell nothing


@dataclass(frozen=True)
class AttentionConfig(UpscalerConfig):
    """Shape of the network; the defaults are the paper's, where it gives them.

    Attributes:
        width: channels, a multiple of `share` and `reduction`.
        global_blocks, local_blocks: residual blocks of either kind; published are 8 and 8.
        attention: which of them have their attention, of `ATTENTION`; the others are plain residual blocks (table 4).
        place: where in a block it stands, of `PLACES`.
        reduction: queries, keys and values of the global attention have so many times fewer channels (SAGAN: 8).
        window: global attention looks at squares of at most this side, in pixels of the photo. Smaller photos are seen whole.
        local_window: side of the windows of the local attention, odd (Hu et al., 2019: 7).
        share: channels that share the weights of such a window (Hu et al., 2019: 8).
    """

    width: int = 64
    global_blocks: int = 8
    local_blocks: int = 8
    attention: str = "both"
    place: str = "behind"
    reduction: int = 8
    window: int = 64
    local_window: int = 7
    share: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        what, counts = "attention network", ("global_blocks", "local_blocks")
        check_whole(what, {"width": self.width, "reduction": self.reduction, "share": self.share}, 1, WIDEST)
        check_whole(what, {name: getattr(self, name) for name in counts}, 0, DEEPEST)
        check_whole(what, {"window": self.window, "local_window": self.local_window}, 1, 1024)
        if self.attention not in ATTENTION:
            raise WeightsError(f"{what}: attention {self.attention!r:.40} is not one of {', '.join(ATTENTION)}.")
        if self.place not in PLACES:
            raise WeightsError(f"{what}: place {self.place!r:.40} is not one of {', '.join(PLACES)}.")
        if self.width % self.share or self.width % self.reduction or not self.local_window % 2:
            raise WeightsError(
                f"{what}: width ({self.width}) must be a multiple of share ({self.share}) and of reduction ({self.reduction}), and "
                f"local_window ({self.local_window}) odd."
            )


class GlobalAttention(nn.Module):
    """Every place looks at every other: SAGAN's module (Zhang et al., 2018), equations 7 to 9.

    o_j = v(sum_i softmax_i(f(x_i)·g(x_j)) h(x_i)), y = x + λ o; without the 1/sqrt(d) of transformers. Through torch's
    `scaled_dot_product_attention`, whose memory grows with the places, not with their square.

    Args:
        channels: of x.
        reduction, window, place: of `AttentionConfig`.
    """

    def __init__(self, channels: int, reduction: int = 8, window: int = 64, place: str = "behind") -> None:
        super().__init__()
        inner = channels // reduction
        self.f, self.g, self.h = (conv(channels, inner, 1, bias=False) for _ in range(3))
        self.v = conv(inner, channels, 1, bias=False)
        self.gain = nn.Parameter(torch.full([], float(place == "between")))  # λ
        self.window, self.unit = window, place == "between"

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> the same shape; x itself where λ is 0."""
        rows, cols = (math.ceil(side / self.window) for side in x.shape[-2:])
        if rows == cols == 1:
            return self._attend(x)
        strips = [[self._attend(tile) for tile in strip.chunk(cols, 3)] for strip in x.chunk(rows, 2)]
        return torch.cat([torch.cat(strip, 3) for strip in strips], 2)

    def _attend(self, x: Tensor) -> Tensor:
        compared = unit(x) if self.unit else x
        made = self.f(compared), self.g(compared), self.h(x)
        f, g, h = (part.flatten(2).transpose(1, 2)[:, None].contiguous() for part in made)
        seen = F.scaled_dot_product_attention(g, f, h, scale=1.0)
        seen = seen[:, 0].transpose(1, 2).reshape(len(x), -1, *x.shape[-2:])
        return x + self.gain * self.v(seen)


class LocalAttention(nn.Module):
    """Every place looks at a window around it: the local relation layer (Hu et al., 2019), equations 10 and 11.

    The weights of a window are softmax(-(q - k)² + G(offset)), q of the place, k of a place in the window, both a single number
    for each group of channels, which share the weights; G, the geometry prior, is a small network of the offset. Places outside the
    photo have no weight. y = x + λ P(weighted mean of x), P a 1x1 convolution.

    Args:
        channels: of x.
        window: side of the window, odd.
        share: channels of a group.
        place: of `AttentionConfig`.
    """

    def __init__(self, channels: int, window: int = 7, share: int = 8, place: str = "behind") -> None:
        super().__init__()
        self.window, self.groups = window, channels // share
        self.query, self.key = conv(channels, self.groups, 1), conv(channels, self.groups, 1, bias=False)
        self.geometry = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, self.groups))
        self.out = conv(channels, channels, 1, bias=False)
        self.gain = nn.Parameter(torch.full([], float(place == "between")))  # λ
        self.unit = place == "between"
        reach = window // 2
        steps = torch.arange(-reach, reach + 1) / max(reach, 1)
        offsets = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
        self.register_buffer("offsets", offsets, persistent=False)

    offsets: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> the same shape; x itself where λ is 0."""
        height, width = x.shape[-2:]
        rows = max(1, STRIP // width)
        with torch.autocast(x.device.type, enabled=False):  # 49 small sums want full precision, and are faster with it
            wide = x.float()
            seen = [self._strip(wide, top, min(top + rows, height)) for top in range(0, height, rows)]
        return x + self.gain.to(x.dtype) * self.out(torch.cat(seen, 2) if len(seen) > 1 else seen[0]).to(x.dtype)

    def weights(self, x: Tensor, top: int = 0, bottom: int | None = None) -> Tensor:
        """What the rows from `top` to `bottom` of x (n, channels, h, w) see of their windows.

        Returns:
            (n, groups, window², rows, w), summing to 1 over the windows, which are read row by row.
        """
        height, width = x.shape[-2:]
        bottom, r = height if bottom is None else bottom, self.window // 2
        above, below = max(0, top - r), min(height, bottom + r)
        around = (r, r, r - (top - above), r - (below - bottom))
        compared = unit(x[:, :, above:below]) if self.unit else x[:, :, above:below]
        q = self.query(compared[:, :, top - above : bottom - above])
        k = F.pad(self.key(compared), around)
        outside = F.pad(k.new_zeros(1, 1, below - above, width), around, value=1)
        shape = (-1, self.window**2, bottom - top, width)
        k, edge = F.unfold(k, self.window).view(len(x), self.groups, *shape[1:]), F.unfold(outside, self.window)
        prior = self.geometry(self.offsets).t()[:, :, None, None]
        prior = prior.masked_fill(edge.view(1, 1, *shape[1:]) > 0, -math.inf)
        apart = q[:, :, None] - k
        return torch.addcmul(prior, apart, apart, value=-1).softmax(2)

    def _strip(self, x: Tensor, top: int, bottom: int) -> Tensor:
        """The weighted means of rows from `top` to `bottom`, (n, channels, rows, w)."""
        height, r = x.shape[2], self.window // 2
        above, below = max(0, top - r), min(height, bottom + r)
        padded = F.pad(x[:, :, above:below].contiguous(), (r, r, r - (top - above), r - (below - bottom)))
        mean: Tensor = WindowMean.apply(
            self.weights(x, top, bottom), padded.unflatten(1, (self.groups, -1)), self.window
        )
        return mean.flatten(1, 2)


class WindowMean(torch.autograd.Function):
    """Weighted means over windows. Its gradient is written down because torch's own pads every one of the window's places anew."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, padded: Tensor, window: int) -> Tensor:
        """weights (n, groups, window², h, w), padded (n, groups, m, h + window - 1, w + window - 1) -> (n, groups, m, h, w)."""
        ctx.save_for_backward(weights, padded)
        ctx.window = window
        mean = padded.new_zeros(*padded.shape[:3], *weights.shape[-2:])
        for weight, part in zip(weights.split(1, 2), _parts(padded, window), strict=True):
            mean.addcmul_(weight, part)
        return mean

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        weights, padded = ctx.saved_tensors
        of_weights, of_padded, slope = torch.empty_like(weights), torch.zeros_like(padded), slope.contiguous()
        each = torch.empty_like(slope)
        places = zip(weights.split(1, 2), _parts(padded, ctx.window), _parts(of_padded, ctx.window), strict=True)
        for i, (weight, part, of_part) in enumerate(places):
            torch.sum(torch.mul(slope, part, out=each), 2, out=of_weights[:, :, i])
            of_part.addcmul_(weight, slope)
        return of_weights, of_padded, None


def _parts(x: Tensor, window: int) -> list[Tensor]:
    """What each place of a window sees, row by row: views of x (…, H, W)."""
    rows, cols = x.shape[-2] - window + 1, x.shape[-1] - window + 1
    return [x[..., dy : dy + rows, dx : dx + cols] for dy in range(window) for dx in range(window)]


def unit(x: Tensor) -> Tensor:
    """(n, c, h, w) with a root mean square of 1 over the channels of each place."""
    return x * (x.float().square().mean(1, keepdim=True) + FAINT).rsqrt().to(x.dtype)


class AttentionBlock(nn.Module):
    """Convolution, ReLU, convolution beside a skip, with attention behind or before the latter (figure 4); begins as the identity.

    Args:
        channels: before and after.
        attention: `GlobalAttention`, `LocalAttention` or `nn.Identity`, on such channels.
        place: of the attention, of `PLACES`.
    """

    def __init__(self, channels: int, attention: nn.Module, place: str = "behind") -> None:
        super().__init__()
        self.between = place == "between"
        self.conv0, self.conv1, self.attention = conv(channels, channels), conv(channels, channels), attention
        nn.init.zeros_(self.conv1.weight)
        nn.init.zeros_(self.conv1.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        made = F.relu(self.conv0(x))
        return x + (self.conv1(self.attention(made)) if self.between else self.attention(self.conv1(made)))


class AttentionNetwork(Upscaler):
    """Shallow features, 8 global and 8 local blocks, enlargement, reconstruction; see the module and `Upscaler`."""

    architecture = "ssrvae"
    config: AttentionConfig

    def __init__(self, config: AttentionConfig | None = None, name: str = "ssrvae") -> None:
        c = config or AttentionConfig()
        super().__init__(c, name)
        self.shallow = conv(3, c.width)
        self.global_blocks = nn.Sequential(
            *(AttentionBlock(c.width, _global(c), c.place) for _ in range(c.global_blocks))
        )
        self.local_blocks = nn.Sequential(*(AttentionBlock(c.width, _local(c), c.place) for _ in range(c.local_blocks)))
        self.up = shuffled(c.width, c.scale)
        self.out = conv(c.width, 3)
        self.begin(self.out)

    def enlarge(self, photo: Tensor) -> Tensor:
        x = self.shallow(photo.contiguous(memory_format=torch.channels_last))
        return self.out(self.up(self.local_blocks(self.global_blocks(x))))


def _global(c: AttentionConfig) -> nn.Module:
    return (
        GlobalAttention(c.width, c.reduction, c.window, c.place) if c.attention in ("both", "global") else nn.Identity()
    )


def _local(c: AttentionConfig) -> nn.Module:
    return (
        LocalAttention(c.width, c.local_window, c.share, c.place) if c.attention in ("both", "local") else nn.Identity()
    )
