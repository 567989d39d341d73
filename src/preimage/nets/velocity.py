"""The network of a flow: at a time between noise and picture, which way the pictures move (Lipman et al., 2023, "Flow Matching for
Generative Modeling"; Liu et al., 2023, "Flow Straight and Fast").

A small U-Net as diffusion models have it (Ho et al., 2020; Dhariwal and Nichol, 2021): residual blocks that are told the time,
self-attention, skips from one half to the other. Pictures are taken apart into patches first, so that its widest maps are small.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8
WAVES = 64
"""Sines and cosines that a time is written in."""


def waves(t: Tensor) -> Tensor:
    """Times (n,) in [0, 1] -> (n, WAVES): sines and cosines of frequencies from 1 to 1,000."""
    angles = t[:, None] * torch.exp(torch.linspace(0, math.log(1000), WAVES // 2, device=t.device))
    return torch.cat([angles.sin(), angles.cos()], 1)


class Residual(nn.Module):
    """Two convolutions beside a skip; the second reads maps that the time has scaled and shifted; zero at first."""

    def __init__(self, before: int, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm0, self.conv0 = nn.GroupNorm(GROUPS, before), nn.Conv2d(before, channels, 3, padding=1)
        self.norm1, self.conv1 = nn.GroupNorm(GROUPS, channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.told = nn.Linear(embedding, 2 * channels)
        self.skip = nn.Conv2d(before, channels, 1) if before != channels else nn.Identity()
        _silence(self.conv1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.told(time)[:, :, None, None].chunk(2, 1)
        y = self.norm1(self.conv0(F.silu(self.norm0(x)))) * (1 + scale) + shift
        passed: Tensor = self.skip(x)
        return passed + self.conv1(F.silu(y))


class Attention(nn.Module):
    """Self-attention between all places of a map, beside a skip; zero at first."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm, self.heads = nn.GroupNorm(GROUPS, channels), heads
        self.ask, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)
        _silence(self.out)

    def forward(self, x: Tensor) -> Tensor:
        n, channels, h, w = x.shape
        parts = self.ask(self.norm(x)).reshape(n, 3, self.heads, channels // self.heads, h * w)
        found = F.scaled_dot_product_attention(*parts.transpose(-1, -2).unbind(1))
        y: Tensor = x + self.out(found.transpose(-1, -2).reshape(n, channels, h, w))
        return y


class Block(nn.Module):
    """A residual block and attention."""

    def __init__(self, before: int, channels: int, embedding: int, heads: int) -> None:
        super().__init__()
        self.residual, self.attention = Residual(before, channels, embedding), Attention(channels, heads)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y: Tensor = self.attention(self.residual(x, time))
        return y


class VelocityNetwork(nn.Module):
    """Pictures on their way (n, 3, R, R) and times (n,), 1 noise and 0 pictures -> velocity d picture / d time (n, 3, R, R).

    Args:
        patch: pixels along a patch, which becomes one place of the widest map.
        channels: of the maps, each half the side of the one before.
        blocks: of each of them on the way down; one more on the way up.
        embedding: numbers that a time becomes.
        heads: of the attention.
    """

    def __init__(
        self, patch: int, channels: tuple[int, ...], blocks: tuple[int, ...], embedding: int, heads: int
    ) -> None:
        super().__init__()
        self.patch, first = patch, channels[0]
        self.time = nn.Sequential(nn.Linear(WAVES, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())
        self.enter = nn.Conv2d(3 * patch**2, first, 3, padding=1)
        self.down, kept, now = nn.ModuleList(), [first], first
        for level, (width, count) in enumerate(zip(channels, blocks, strict=True)):
            if level:
                self.down.append(nn.Conv2d(now, width, 3, stride=2, padding=1))
                kept, now = [*kept, width], width
            for _ in range(count):
                self.down.append(Block(now, width, embedding, heads))
                kept, now = [*kept, width], width
        self.middle = nn.ModuleList([Block(now, now, embedding, heads), Residual(now, now, embedding)])
        self.up = nn.ModuleList()
        for level, (width, count) in reversed([*enumerate(zip(channels, blocks, strict=True))]):
            for _ in range(count + 1):
                self.up.append(Block(now + kept.pop(), width, embedding, heads))
                now = width
            if level:
                self.up.append(nn.Conv2d(now, channels[level - 1], 3, padding=1))
                now = channels[level - 1]
        self.norm, self.leave = nn.GroupNorm(GROUPS, now), nn.Conv2d(now, 3 * patch**2, 3, padding=1)
        _silence(self.leave)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time = self.time(waves(t).to(x.dtype))
        x = self.enter(F.pixel_unshuffle(x, self.patch).contiguous(memory_format=torch.channels_last))
        kept = [x]
        for part in self.down:
            x = part(x, time) if isinstance(part, Block) else part(x)
            kept.append(x)
        for part in self.middle:
            x = part(x, time)
        for part in self.up:
            if isinstance(part, Block):
                x = part(torch.cat([x, kept.pop()], 1), time)
            else:
                x = part(F.interpolate(x, scale_factor=2, mode="nearest"))
        return F.pixel_shuffle(self.leave(F.silu(self.norm(x))), self.patch)


def _silence(layer: nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
