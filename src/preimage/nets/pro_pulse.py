"""Pro-PULSE's encoders (Zhou et al., TIP 2022, sections III-D to III-F, figures 3 and 4): a photo in, latent codes of a generator out.

The base encoder E_W writes one code for all rows of W+; the scale-specific encoder E_W+ has one part for each resolution of the
generator, and its codes take the place of the base's from coarse to fine, stage by stage.

The paper leaves open: the width of the trunk, the activations of the heads, how many heads the first stage has (here one for each
resolution, two codes each), and what the codes are measured from. Here they are counted in spreads of the prior's latents from
its mean latent, or, those of E_W+, from the code that E_W wrote; every head begins with zeros, so that an untrained encoder
answers the mean face, and a stage that opens begins where the one before it ended.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.bounds import DEEPEST, WIDEST, check_resolution, check_whole
from preimage.errors import OperatorError, WeightsError
from preimage.nets.upscaler import conv

SPACES = ("w", "u")
OFFSETS = ("base", "mean")
LEAK = 0.2  # of heads, and of the mapping network's last activation, behind which the space u lies


@dataclass(frozen=True)
class ProPulseConfig:
    """Shape of both encoders; the defaults are the paper's, where it gives them: 16 px to the 18 codes of a 1024-pixel StyleGAN2.

    Attributes:
        lr_size: side of the photos.
        hr_size: side of the prior's pictures.
        rows: how many codes, coarse first, come from E_W+ at each stage; the last number is that of the prior's rows.
        w_dim: size of a code.
        width: channels of the trunks (64 in RCAN).
        head_width: channels of the convolutions that bring a feature map down to a code.
        groups, blocks: groups of the base encoder, and residual blocks of each (4 and 2); a part of E_W+ has as many blocks.
        reduction: of the channel attention (16).
        base, scales: whether there is E_W, and E_W+ (the paper's ablations have one of them).
        offset: what the codes of E_W+ are added to: base, the code of E_W, or mean, the mean latent.
        space: w, or u, behind the inverse leaky ReLU, where the prior's latents are Gaussian (PULSE, section 3.2).
        silent: so many of the prior's noise maps, coarse first, are zero; the others are random.
    """

    lr_size: int = 16
    hr_size: int = 1024
    rows: tuple[int, ...] = (8, 10, 12, 14, 16, 18)
    w_dim: int = 512
    width: int = 64
    head_width: int = 512
    groups: int = 4
    blocks: int = 2
    reduction: int = 16
    base: bool = True
    scales: bool = True
    offset: str = "base"
    space: str = "w"
    silent: int = 5

    def __post_init__(self) -> None:
        what = "encoder"
        if isinstance(self.rows, list):
            object.__setattr__(self, "rows", tuple(self.rows))
        check_resolution(what, self.hr_size, 8)
        check_whole(what, {"lr_size": self.lr_size}, 1, 512)
        check_whole(
            what, {name: getattr(self, name) for name in ("w_dim", "width", "head_width", "reduction")}, 1, WIDEST
        )
        check_whole(what, {name: getattr(self, name) for name in ("groups", "blocks")}, 1, DEEPEST)
        check_whole(what, {"silent": self.silent}, 0, WIDEST)
        if not isinstance(self.rows, tuple) or not 1 <= len(self.rows) <= DEEPEST:
            raise WeightsError(f"{what}: rows ({self.rows!r:.40}) must be a list, one number for each stage.")
        check_whole(what, {f"rows[{i}]": x for i, x in enumerate(self.rows)}, 1, WIDEST)
        if list(self.rows) != sorted(set(self.rows)):
            raise WeightsError(f"{what}: rows ({list(self.rows)}) must rise from stage to stage.")
        for name in ("base", "scales"):
            if type(getattr(self, name)) is not bool:
                raise WeightsError(f"{what}: {name} ({getattr(self, name)!r:.40}) must be true or false.")
        if not (self.base or self.scales):
            raise WeightsError(f"{what}: base and scales are both false; it needs one of them.")
        for name, words in (("offset", OFFSETS), ("space", SPACES)):
            if getattr(self, name) not in words:
                raise WeightsError(f"{what}: {name} {getattr(self, name)!r:.40} is not one of {', '.join(words)}.")

    @property
    def stages(self) -> int:
        """How many stages E_W+ has; without it 0."""
        return len(self.rows) if self.scales else 0

    @property
    def codes(self) -> tuple[tuple[int, ...], ...]:
        """Of each stage, how many codes each of its parts writes: two for a resolution in the first one, the further ones in one part."""
        first = self.rows[0]
        pairs = (2,) * (first // 2) + (1,) * (first % 2)
        return (pairs, *((b - a,) for a, b in zip(self.rows, self.rows[1:], strict=False)))


class ResidualChannelAttention(nn.Module):
    """RCAB (Zhang et al., 2018, RCAN): two convolutions, whose channels are weighed by what the whole map holds, beside a skip."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        inner = max(1, width // reduction)
        self.conv0, self.conv1 = conv(width, width), conv(width, width)
        self.down, self.up = conv(width, inner, 1), conv(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.conv0(x)))
        weights = self.up(F.relu(self.down(y.mean(dim=(2, 3), keepdim=True))))
        return x + y * weights.sigmoid()


class Blocks(nn.Module):
    """RCABs beside a skip; of a group of RCAN (`last`) a convolution follows them."""

    def __init__(self, config: ProPulseConfig, last: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(ResidualChannelAttention(config.width, config.reduction) for _ in range(config.blocks))
        )
        self.last = conv(config.width, config.width) if last else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.last(self.blocks(x))
        return y


class Head(nn.Module):
    """A feature map -> codes (n, codes, w_dim), zero at first: convolutions of stride 4 down to less than 8 pixels, then a whole one.

    From 32 pixels these are the paper's three, (4, 4), (4, 4), (2, 1). A side that 4 does not divide is padded.
    """

    def __init__(self, config: ProPulseConfig, codes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        side, width = 2 * config.lr_size, config.width
        while side >= 8:
            padding = (-side % 4 + 1) // 2
            layers += [nn.Conv2d(width, config.head_width, 4, stride=4, padding=padding), nn.LeakyReLU(LEAK)]
            side, width = (side + 2 * padding) // 4, config.head_width
        self.body = nn.Sequential(*layers)
        self.out = nn.Conv2d(width, codes * config.w_dim, side)
        self.codes = codes
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x)).flatten(1).unflatten(1, (self.codes, -1)).float()


def stem(config: ProPulseConfig) -> nn.Sequential:
    """Convolution, and a transposed one to twice the side: the heads want 32 pixels of a photo of 16."""
    return nn.Sequential(conv(3, config.width), nn.ConvTranspose2d(config.width, config.width, 4, stride=2, padding=1))


class BaseEncoder(nn.Module):
    """E_W (figure 3): a photo around 0 (n, 3, h, h) -> one code (n, w_dim), in spreads from the mean latent."""

    def __init__(self, config: ProPulseConfig) -> None:
        super().__init__()
        self.stem = stem(config)
        self.groups = nn.Sequential(*(Blocks(config, True) for _ in range(config.groups)))
        self.head = Head(config, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.groups(x))[:, 0]


class Part(nn.Module):
    """A part of E_W+ (figure 4): RCABs that the features flow through, and a head."""

    def __init__(self, config: ProPulseConfig, codes: int) -> None:
        super().__init__()
        self.trunk, self.head = Blocks(config, False), Head(config, codes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features -> features, codes."""
        x = self.trunk(x)
        return x, self.head(x)


class ScaleEncoder(nn.Module):
    """E_W+: a photo around 0 -> the codes of the first stages (n, rows, w_dim), in spreads."""

    def __init__(self, config: ProPulseConfig) -> None:
        super().__init__()
        self.stem = stem(config)
        self.stages = nn.ModuleList(nn.ModuleList(Part(config, codes) for codes in parts) for parts in config.codes)

    def forward(self, x: Tensor, stages: int) -> Tensor:
        x, codes = self.stem(x), []
        for stage in list(self.stages)[:stages]:
            for part in stage:  # type: ignore[attr-defined]
                x, found = part(x)
                codes.append(found)
        return torch.cat(codes, 1)


class ProPulseEncoder(nn.Module):
    """Both encoders; a photo (n, 3, h, h) in [0, 1] -> W+ latents (n, rows, w_dim) of the prior that it is bound to.

    Args:
        config: shape.
        name: for provenance.

    Attributes:
        centre, spread: (w_dim,) of the prior's latents, in the configuration's space.
        stage: how many stages of E_W+ answer; the other rows are those of E_W, without it the centre.
    """

    architecture: ClassVar[str] = "pro-pulse"
    centre: Tensor
    spread: Tensor
    stage: Tensor

    def __init__(self, config: ProPulseConfig | None = None, name: str = "pro-pulse") -> None:
        super().__init__()
        c = config or ProPulseConfig()
        self.config, self.name = c, name
        self.base = BaseEncoder(c) if c.base else None
        self.scales = ScaleEncoder(c) if c.scales else None
        self.register_buffer("centre", torch.zeros(c.w_dim))
        self.register_buffer("spread", torch.ones(c.w_dim))
        self.register_buffer("stage", torch.tensor(c.stages))

    @property
    def lr_size(self) -> int:
        return self.config.lr_size

    @property
    def resolution(self) -> int:
        """Side of the prior's pictures."""
        return self.config.hr_size

    def metadata(self) -> dict[str, Any]:
        """What a weight file must say to rebuild this module."""
        return {"architecture": self.architecture, "config": asdict(self.config)}

    def offsets(self, lr: Tensor) -> Tensor:
        """The codes as the heads write them, (n, rows, w_dim) float32, in spreads from the centre.

        Raises:
            OperatorError: photos of another size.
        """
        side, c = self.config.lr_size, self.config
        if lr.ndim != 4 or tuple(lr.shape[1:]) != (3, side, side):
            raise OperatorError(f"{self.name}: takes photos (n, 3, {side}, {side}), not {tuple(lr.shape)}.")
        x = (lr * 2 - 1).contiguous(memory_format=torch.channels_last)
        low = self.base(x) if self.base is not None else x.new_zeros(len(x), c.w_dim)
        codes: Tensor = low[:, None].expand(-1, c.rows[-1], -1)
        if self.scales is not None and (stages := max(0, int(self.stage))):
            own = self.scales(x, stages)
            own = own + low[:, None] if c.offset == "base" else own
            codes = torch.cat([own, codes[:, own.shape[1] :]], 1)
        return codes

    def forward(self, lr: Tensor) -> Tensor:
        """See the class."""
        return self.place(self.offsets(lr))

    def place(self, offsets: Tensor) -> Tensor:
        """Offsets in spreads (…, w_dim) -> latents."""
        codes = self.centre + self.spread * offsets
        return F.leaky_relu(codes, LEAK) if self.config.space == "u" else codes
