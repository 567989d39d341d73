"""A face prior that is a flow: noise of as many numbers as the picture has, moved to the picture in a few steps.

Liu, Gong, Liu, "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow", ICLR 2023. Where a GAN draws
what its latents reach, a flow is a map both ways: every picture has its noise (`Flow.invert`), and noise is Gaussian, which is what
PULSE takes latents for (section 3.2).

The coarse frequencies of faces are a thousand times as loud as the fine ones, and noise is of one loudness. The flow draws pictures
whose frequencies are nearer to one another (`whitening`), which are then filtered: that way the steps may be long.

To a search it is a style-based prior without a mapping network. Its rows hold the noise from coarse to fine: row 0 the lowest
frequencies of its cosine transform in all colours, and so on. So that the same code in every row, as in W, is noise like any other,
each row puts its numbers on their frequencies in an order and with signs of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.bounds import DEEPEST, WIDEST, check_resolution, check_whole
from preimage.errors import WeightsError
from preimage.generate.frequencies import contrasts, from_waves, loudness, order, to_waves
from preimage.generate.prior import LEAK, inverse_leaky_relu
from preimage.generate.side_outputs import Tap
from preimage.generate.style_prior import StylePrior
from preimage.nets.velocity import GROUPS, VelocityNetwork
from preimage.seeds import normal

KEPT = 4
"""Guesses that the next one is made of, backwards."""


@dataclass(frozen=True)
class FlowConfig:
    """Shape of a flow.

    Attributes:
        resolution: side of the picture, a power of two from 8 to 1024.
        w_dim: numbers of a row; all rows together are as many as the picture has.
        patch, widths, blocks, embedding, heads: of `VelocityNetwork`; widths are its channels.
        whitening: how far the loudness of frequencies is brought together, from 0, not at all, to 1.
        times: where the steps begin and end, from 1, noise, down to 0, the picture.
        variation: how much louder or softer than Gaussian the noise of a sample is, the standard deviation of a factor for each; 0 for
            none. See `Flow.match`.
    """

    resolution: int = 16
    w_dim: int = 192
    patch: int = 2
    widths: tuple[int, ...] = (96, 128)
    blocks: tuple[int, ...] = (2, 1)
    embedding: int = 128
    heads: int = 4
    whitening: float = 0.5
    times: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25, 0.0)
    variation: float = 0.0

    def __post_init__(self) -> None:
        check_resolution("flow", self.resolution, 8)
        whole = {"w_dim": self.w_dim, "patch": self.patch, "embedding": self.embedding, "heads": self.heads}
        check_whole("flow", whole, 1, WIDEST)
        for name in ("widths", "blocks", "times"):
            given: object = getattr(self, name)  # from a file, it may be anything
            if not isinstance(given, list | tuple) or not 1 <= len(given) <= 1 + DEEPEST:
                raise WeightsError(f"flow: {name} ({given!r:.40}) must be a list of numbers.")
            object.__setattr__(self, name, tuple(given))
        check_whole("flow", {f"widths[{i}]": x for i, x in enumerate(self.widths)}, 1, WIDEST)
        check_whole("flow", {f"blocks[{i}]": x for i, x in enumerate(self.blocks)}, 1, DEEPEST)
        if len(self.widths) != len(self.blocks) or any(x % GROUPS or x % self.heads for x in self.widths):
            raise WeightsError(
                f"flow: widths ({list(self.widths)}) must be as many as blocks ({list(self.blocks)}), and multiples of "
                f"{GROUPS} and of heads ({self.heads})."
            )
        if self.numbers % self.w_dim:
            raise WeightsError(f"flow: w_dim ({self.w_dim}) must divide the picture's {self.numbers} numbers.")
        if self.resolution % (self.patch * 2 ** (len(self.widths) - 1)):
            raise WeightsError(
                f"flow: {self.resolution} px cannot be taken into patches of {self.patch} and halved for each of widths."
            )
        for name in ("whitening", "variation"):
            share: object = getattr(self, name)
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise WeightsError(f"flow: {name} ({share!r:.40}) must be a number from 0 to 1.")
        moments: Sequence[object] = self.times
        if not all(isinstance(t, int | float) and not isinstance(t, bool) for t in moments) or (
            (self.times[0], self.times[-1]) != (1, 0) or list(self.times) != sorted(set(self.times), reverse=True)
        ):
            raise WeightsError(f"flow: times ({list(self.times)!r:.60}) must fall from 1 to 0.")

    @property
    def numbers(self) -> int:
        """Of a picture, and of its noise."""
        return 3 * self.resolution**2

    @property
    def z_dim(self) -> int:
        return self.w_dim

    @property
    def rows(self) -> int:
        return self.numbers // self.w_dim

    @property
    def resolutions(self) -> tuple[int, ...]:
        """4, 8, …, resolution."""
        return tuple(2**k for k in range(2, int(math.log2(self.resolution)) + 1))

    @property
    def noise_sizes(self) -> tuple[int, ...]:
        """None: all noise is in the rows."""
        return ()

    def channels(self, side: int) -> int:
        """None of any side: branches have nothing to read."""
        return 0


class Standard(nn.Module):
    """z -> w as mapping networks end, in a leaky ReLU, and nothing before it."""

    w_avg: Tensor

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor) -> Tensor:
        """z (…, d) -> w."""
        return F.leaky_relu(z, LEAK)

    def fit(self) -> tuple[Tensor, Tensor]:
        """The Gaussian behind the leaky ReLU, which is known: mean 0 and spread 1."""
        return torch.zeros_like(self.w_avg), torch.ones_like(self.w_avg)


def numbers(config: FlowConfig, seeds: Sequence[int], stream: str = "z") -> Tensor:
    """The noise of samples, as Gaussian rows (n, rows, w_dim): a factor of each seed's own (`variation`) makes it louder or softer."""
    loud = 1 + config.variation * normal(seeds, (1, 1), "louder")
    return normal(seeds, (config.rows, config.w_dim), stream) * loud


class FlowSynthesis(nn.Module):
    """W+ -> pictures in [-1, 1], as `StylePrior` asks; those of the coarse sides are the picture made small.

    Attributes:
        centre, gain: (3, R, R), the pictures' mean and the filter behind the flow, by frequency; see `calibrate` and `equalise`.
    """

    centre: Tensor
    gain: Tensor

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config, shape = config, (3, config.resolution, config.resolution)
        self.velocity = VelocityNetwork(config.patch, config.widths, config.blocks, config.embedding, config.heads)
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("gain", torch.ones(shape))

    @torch.no_grad()
    def calibrate(self, pictures: Tensor) -> None:
        """Set the filter by how loud each frequency of pictures (n, 3, R, R) in [0, 1] is, as training wants it."""
        self.centre, spread = loudness(pictures)
        gain = spread**self.config.whitening
        self.gain = gain * (spread / gain).square().mean().sqrt()

    @torch.no_grad()
    def equalise(self, pictures: Tensor, drawn: Tensor) -> None:
        """Set the filter so that what is drawn is as loud at each frequency as pictures are, both (n, 3, R, R) in [0, 1].

        In few steps a flow draws all too quiet pictures, the fine frequencies and colours above all.
        """
        (own, quiet), (centre, spread) = loudness(drawn), loudness(pictures)
        self.centre = centre + (self.centre - own) * spread / quiet
        self.gain = self.gain * spread / quiet

    @torch.no_grad()
    def draw(self, count: int, variation: float) -> Tensor:
        """Pictures (count, 3, R, R) in [0, 1] of noise that no seed has, with so much variation."""
        config, device, parts = replace(self.config, variation=variation), self.gain.device, list[Tensor]()
        for i in range(0, count, 100):
            z = numbers(config, range(i, min(i + 100, count)), "equalise").to(device)
            parts.append((self(F.leaky_relu(z, LEAK))[-1] + 1) / 2)
        return torch.cat(parts)

    def whitened(self, pictures: Tensor) -> Tensor:
        """Pictures in [0, 1] -> as the flow draws them, of the loudness of noise."""
        return from_waves((to_waves(pictures) - self.centre) / self.gain)

    def noise_of(self, ws: Tensor) -> Tensor:
        """Rows (n, rows, w_dim) -> noise (n, 3, R, R)."""
        side, n = self.config.resolution, len(ws)
        places, signs = (x.to(ws.device) for x in order(side, self.config.rows))
        numbers = inverse_leaky_relu(ws.float()).reshape(n, -1) * signs
        waves = torch.zeros_like(numbers).index_copy(1, places, numbers).reshape(n, 3, side, side)
        return from_waves(waves)

    def rows_of(self, noise: Tensor) -> Tensor:
        """The inverse of `noise_of`."""
        side, n = self.config.resolution, len(noise)
        places, signs = (x.to(noise.device) for x in order(side, self.config.rows))
        numbers = to_waves(noise.float()).reshape(n, -1)[:, places] * signs
        return F.leaky_relu(numbers, LEAK).reshape(n, self.config.rows, self.config.w_dim)

    def step(self, x: Tensor, start: float, end: float) -> Tensor:
        """From one time to another along the velocity at the first (Euler)."""
        v: Tensor = self.velocity(x, x.new_full((len(x),), start))
        return x + (end - start) * v.float()

    def forward(
        self,
        ws: Tensor,
        noise: Sequence[Tensor] | None = None,
        dtype: torch.dtype | None = None,
        largest: int | None = None,
        tap: Tap | None = None,
    ) -> list[Tensor]:
        """See `StylePrior`; there are no noise maps, and nobody is told feature maps."""
        x = self.noise_of(ws)
        with torch.autocast(x.device.type, dtype) if dtype not in (None, torch.float32) else nullcontext():
            for start, end in pairwise(self.config.times):
                x = self.step(x, start, end)
        picture, pictures = from_waves(to_waves(x) * self.gain + self.centre) * 2 - 1, list[Tensor]()
        for side in self.config.resolutions:
            if largest is None or side <= largest:
                pictures.append(F.avg_pool2d(picture, self.config.resolution // side))
        return pictures

    def back(self, x: Tensor, start: float, end: float, passes: int) -> Tensor:
        """What `step` came from: the fixed point of x - (end - start) velocity, by so many passes of the network.

        Anderson's acceleration (Walker and Ni, 2011): every guess is made of the last few, so that their misses cancel; the plain
        iteration needs steps that are short.
        """
        guess, found, misses = x, list[Tensor](), list[Tensor]()
        for _ in range(passes):
            better = x - (self.step(guess, start, end) - guess)
            found, misses = [*found, better.flatten(1)][-KEPT:], [*misses, (better - guess).flatten(1)][-KEPT:]
            apart, moved = (torch.stack([y[-1] - z for z in y[:-1]] or [y[-1] * 0], 2) for y in (misses, found))
            gram = apart.mT @ apart
            ridge = gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12) * 1e-6
            gram = gram + ridge[:, None, None] * torch.eye(gram.shape[1], device=x.device)
            share = torch.linalg.solve(gram, apart.mT @ misses[-1][:, :, None])
            guess = (found[-1] - (moved @ share)[:, :, 0]).view_as(x)
        return guess

    @torch.no_grad()
    def invert(self, pictures: Tensor, passes: int = 6) -> Tensor:
        """The latents (n, rows, w_dim) of pictures (n, 3, R, R) in [0, 1]: all steps backwards.

        Args:
            pictures: any; those of faces have noise that is Gaussian.
            passes: of the network for each step; more are nearer.
        """
        x = self.whitened(pictures)
        for start, end in reversed([*pairwise(self.config.times)]):
            x = self.back(x, start, end, passes)
        return self.rows_of(x)


class Flow(StylePrior):
    """See the module; meets `Prior`, and `config` is its shape."""

    architecture: ClassVar[str] = "flow"

    config: FlowConfig
    synthesis: FlowSynthesis

    def __init__(self, config: FlowConfig, name: str = "flow"):
        super().__init__(config, name, Standard(config), FlowSynthesis(config))

    @property
    def invertible(self) -> bool:
        """Always: see `invert`."""
        return True

    def rows_up_to(self, side: int) -> int:
        """All rows have a part in the picture of any side."""
        return self.config.rows

    @property
    def own_sides(self) -> tuple[int, ...]:
        """All; the coarse ones are the picture made small."""
        return self.config.resolutions

    @torch.no_grad()
    def match(self, pictures: Tensor, drawn: int = 2000, probe: float = 0.04) -> None:
        """Set filter and `variation` so that samples are as loud at each frequency, and differ in contrast, as pictures do.

        Args:
            pictures: (n, 3, R, R) in [0, 1].
            drawn: samples to look at, with and without variation.
            probe: the variation with which they are drawn; what it adds to the variance of contrasts goes by its square.
        """
        plain, probed = (self.synthesis.draw(drawn, x) for x in (0.0, probe))
        own, real = loudness(plain), loudness(pictures)
        wanted, without, with_it = (
            float(contrasts(x, *usual).var()) for x, usual in ((pictures, real), (plain, own), (probed, own))
        )
        share = (wanted - without) / max(with_it - without, 1e-9)
        variation = round(probe * max(0.0, min(share, 9)) ** 0.5, 4)
        self.config = self.synthesis.config = replace(self.config, variation=variation)
        self.synthesis.equalise(pictures, plain)

    def latents(self, seeds: Sequence[int], truncation: float = 1.0) -> Tensor:
        """W+ latents (n, rows, w_dim) of these seeds, each row with numbers of its own, scaled by `truncation`."""
        w: Tensor = self.mapping(truncation * numbers(self.config, seeds).to(self.fit_mean.device))
        return w

    def invert(self, pictures: Tensor, passes: int = 6) -> Tensor:
        """See `FlowSynthesis.invert`."""
        return self.synthesis.invert(pictures, passes)
