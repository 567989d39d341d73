"""styleVAE, the learned degradation of SSRVAE (Ma et al., 2019, section 3.1): a sharp face in the style of a real small photo.

What a camera does to a face is taken for a style. One network infers it from a natively small photo, as a Gaussian over z;
another the content of a sharp face, as feature maps; a generator joins both by adaptive instance normalisation (AdaIN). The style
comes from a photo (`StyleVAE.style`, `Styled`) or from the Gaussian. It meets `degrade.learned.LearnedDegradation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.bounds import DEEPEST, WIDEST, check_whole
from preimage.degrade.learned import DegradationNetwork
from preimage.degrade.linear import LinearOperator, area, bicubic
from preimage.errors import OperatorError, WeightsError
from preimage.seeds import normal

LOG_SPREAD = (-8.0, 2.0)
"""Range of log σ, so that neither exp nor the divergence runs away."""
EDGE = 0.5 / 255
"""How near to black and white the reduced face counts in `residual`; its logit is infinite there."""


@dataclass(frozen=True)
class StyleVAEConfig:
    """Shape of the networks; the defaults are the paper's, where it gives them.

    Attributes:
        hr_size, lr_size: sides of the pictures it takes and makes, a power of two apart; lr_size is even.
        latent: length of z (section 4.1: 256).
        width: channels throughout. The paper leaves it open.
        encoder_blocks: residual blocks of each inference network (8).
        generator_blocks: residual blocks of the generator, each with AdaIN behind it (2).
        adain: whether the style enters by AdaIN; else z is appended to the content as constant channels (table 5).
        residual: whether the generator makes what changes the bicubically reduced face, as a difference of logits. Not in the
            paper: instance normalisation forgets how bright and of which colour a face is, and this keeps it.
    """

    hr_size: int = 64
    lr_size: int = 16
    latent: int = 256
    width: int = 64
    encoder_blocks: int = 8
    generator_blocks: int = 2
    adain: bool = True
    residual: bool = False

    def __post_init__(self) -> None:
        check_whole("styleVAE", {name: getattr(self, name) for name in ("hr_size", "lr_size")}, 2, 1024)
        check_whole("styleVAE", {name: getattr(self, name) for name in ("latent", "width")}, 1, WIDEST)
        check_whole("styleVAE", {n: getattr(self, n) for n in ("encoder_blocks", "generator_blocks")}, 1, DEEPEST)
        for name in ("adain", "residual"):
            if type(getattr(self, name)) is not bool:
                raise WeightsError(f"styleVAE: {name} ({getattr(self, name)!r:.40}) must be true or false.")
        factor = self.hr_size // self.lr_size
        if self.hr_size != self.lr_size * factor or factor < 2 or factor & (factor - 1) or self.lr_size % 2:
            raise WeightsError(
                f"styleVAE: hr_size ({self.hr_size}) must be 2, 4, 8, … times lr_size ({self.lr_size}), and lr_size even."
            )


class Block(nn.Module):
    """Two convolutions with a ReLU between them, beside a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv0, self.conv1 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x + self.conv1(F.relu(self.conv0(x)))
        return made


class Statistics(nn.Module):
    """Mean and standard deviation of each channel over its places: what a style is, as AdaIN has it."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, 2c) float32."""
        x = x.float()
        return torch.cat([x.mean((2, 3)), (x.var((2, 3), unbiased=False) + 1e-6).sqrt()], 1)


class AdaIN(nn.Module):
    """Equation 2: each channel normalised over its places, then scaled and shifted by an affine function of z."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.affine = nn.Linear(latent, 2 * width)
        with torch.no_grad():  # begins around a plain normalisation, already different for every style
            nn.init.normal_(self.affine.weight, std=0.5 / latent**0.5)
            self.affine.bias.copy_(torch.cat([torch.ones(width), torch.zeros(width)]))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """x (n, width, h, w), z (n, latent) -> (n, width, h, w)."""
        scale, shift = self.affine(z)[:, :, None, None].chunk(2, 1)
        made: Tensor = F.instance_norm(x) * scale + shift
        return made


class StyleVAE(DegradationNetwork):
    """See the module.

    Descriptions of photos are normalised over the batch in training, and by what was seen then in evaluation: without it the means of
    all styles begin so near to each other that the mutual information finds nothing to start from.

    Args:
        config: shape.
        name: for provenance.
    """

    def __init__(self, config: StyleVAEConfig | None = None, name: str = "style-vae") -> None:
        super().__init__()
        self.config, self.name = config or StyleVAEConfig(), name
        c = self.config
        halvings = (c.hr_size // c.lr_size).bit_length() - 1
        self.content_encoder = nn.Sequential(*_encoder(c.width, halvings, c.encoder_blocks))
        last = nn.Linear(2 * c.width, 2 * c.latent)
        with torch.no_grad():  # narrow Gaussians, so that a style begins as its photo's and not as noise
            last.bias[c.latent :] = -2
        self.style_encoder = nn.Sequential(
            *_encoder(c.width, 1, c.encoder_blocks), nn.ReLU(), Statistics(), nn.BatchNorm1d(2 * c.width, affine=False),
            last,
        )  # fmt: skip
        self.join = nn.Identity() if c.adain else nn.Conv2d(c.width + c.latent, c.width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(c.width) for _ in range(c.generator_blocks))
        self.adain = nn.ModuleList(AdaIN(c.latent, c.width) for _ in range(c.generator_blocks if c.adain else 0))
        self.head = nn.Conv2d(c.width, 3, 3, padding=1)

    @property
    def noise_dim(self) -> int:
        """Length of the style z."""
        return int(self.config.latent)

    def metadata(self) -> dict[str, Any]:
        return {"architecture": "style-vae", "config": asdict(self.config)}

    def style(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        """The Gaussian over the style of natively small photos.

        Args:
            photos: (n, 3, lr_size, lr_size) in [0, 1].

        Returns:
            Mean and log σ, (n, latent) each.

        Raises:
            OperatorError: other shapes.
        """
        side = self.lr_size
        if tuple(photos.shape[1:]) != (3, side, side):
            raise OperatorError(f"{self.name}: infers styles from (n, 3, {side}, {side}), not {tuple(photos.shape)}.")
        x = (photos * 2 - 1).contiguous(memory_format=torch.channels_last)
        mean, log_spread = self.style_encoder(x).float().chunk(2, 1)
        return mean, log_spread.clamp(*LOG_SPREAD)

    @torch.no_grad()
    def calibrate(self, photos: Tensor) -> None:
        """Take the means and spreads by which descriptions are normalised from these photos, such as after averaging weights.

        Args:
            photos: (n, 3, lr_size, lr_size) in [0, 1], 2 or more.
        """
        x = self.style_encoder[:-2]((photos * 2 - 1).contiguous(memory_format=torch.channels_last))
        norm = cast(Any, self.style_encoder[-2])
        norm.running_mean.copy_(x.mean(0))
        norm.running_var.copy_(x.var(0))

    def forward(self, pictures: Tensor, noise: Tensor | None = None) -> Tensor:
        """Sharp faces to small ones, differentiable in both.

        Args:
            pictures: (n, 3, hr_size, hr_size) float, RGB in [0, 1].
            noise: (n, latent), the styles z; None means zeros, the average style.

        Returns:
            (n, 3, lr_size, lr_size), RGB in [0, 1].

        Raises:
            OperatorError: other shapes.
        """
        z = self.checked(pictures, noise)
        x = self.content_encoder((pictures * 2 - 1).contiguous(memory_format=torch.channels_last))
        if not self.config.adain:
            x = self.join(torch.cat([x, z[:, :, None, None].expand(-1, -1, *x.shape[2:]).to(x.dtype)], 1))
        for i, block in enumerate(self.blocks):
            x = block(x)
            if self.config.adain:
                x = self.adain[i](x, z)
        made: Tensor = self.head(x).float()
        if self.config.residual:
            made = made + reduction(self.hr_size, self.lr_size)(pictures.float()).clamp(EDGE, 1 - EDGE).logit()
        return made.sigmoid()


@lru_cache(maxsize=16)
def reduction(hr_size: int, lr_size: int) -> LinearOperator:
    """The antialiased bicubic downscaling of equation 4, which brings the sharp face to the size of the small one."""
    return bicubic(hr_size, lr_size=lr_size)


def _encoder(width: int, halvings: int, blocks: int) -> list[nn.Module]:
    """A convolution, halvings by strides, residual blocks; all 3x3."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU()]
    for _ in range(halvings):
        layers += [nn.Conv2d(width, width, 3, 2, padding=1), nn.ReLU()]
    return [*layers, *(Block(width) for _ in range(blocks))]


class Styled(DegradationNetwork):
    """A styleVAE whose styles are those of one photo; a learned degradation like any other, whose noise is drawn around them.

    Args:
        network: the styleVAE.
        photo: (3, h, w) in [0, 1], natively small, of any size from lr_size on; its central square is reduced by area, as
            those are that the network learned from.
        name: for provenance; None names the network.

    Raises:
        OperatorError: a photo that is too small, or a network without styles.
    """

    def __init__(self, network: Any, photo: Tensor, name: str | None = None) -> None:
        super().__init__()
        if not isinstance(network, StyleVAE):
            raise OperatorError(
                f"{getattr(network, 'name', network)!s:.60}: has no styles of photos to take; leave out the style, or choose "
                "a styleVAE (--degradation style-vae)."
            )
        side, small = min(photo.shape[-2:]), network.lr_size
        if side < small:
            raise OperatorError(
                f"the style's photo is {photo.shape[-1]}x{photo.shape[-2]}; {network.name} needs {small} pixels or more. "
                "Give a larger one."
            )
        top, left = ((length - side) // 2 for length in photo.shape[-2:])
        square = photo[None, :, top : top + side, left : left + side].float()
        if side > small:
            square = area((side, side), lr_size=(small, small))(square).clamp(0, 1)
        self.network, self.config, self.name = (
            network,
            network.config,
            name or f"{network.name} in the style of a photo",
        )
        with torch.no_grad():
            mean, log_spread = network.style(square.to(next(network.parameters()).device))
        self.register_buffer("mean", mean)
        self.register_buffer("spread", log_spread.exp())

    mean: Tensor
    spread: Tensor

    @property
    def noise_dim(self) -> int:
        return self.network.noise_dim

    def noise(self, seeds: Sequence[int], stream: str = "degradation") -> Tensor:
        """Styles z = μ + σ ε of the photo, (n, latent), one row per seed, on the CPU."""
        return self.mean.cpu() + self.spread.cpu() * normal(seeds, (self.noise_dim,), stream)

    def forward(self, pictures: Tensor, noise: Tensor | None = None) -> Tensor:
        """As `StyleVAE.forward`; None means the photo's mean style."""
        made: Tensor = self.network(pictures, self.mean.expand(len(pictures), -1) if noise is None else noise)
        return made
