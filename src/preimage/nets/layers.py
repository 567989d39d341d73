"""Equalised-learning-rate layers, FIR resampling and the modulated convolution of StyleGAN2.

Everything is plain PyTorch: no custom kernels, no grouped-convolution trick, so that it batches, exports and runs on a CPU.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SQRT2 = math.sqrt(2.0)
FIR_TAPS = (1.0, 3.0, 3.0, 1.0)  # StyleGAN2's resampling filter


def fir_kernel(gain: float = 1.0) -> Tensor:
    """The separable [1, 3, 3, 1] filter as a (4, 4) kernel that sums to `gain`."""
    taps = torch.tensor(FIR_TAPS)
    kernel = torch.outer(taps, taps)
    return kernel * (gain / kernel.sum())


def fir(x: Tensor, kernel: Tensor, padding: int | tuple[int, int], stride: int = 1) -> Tensor:
    """Filter each channel of x (n, c, h, w) with one symmetric kernel; `padding` is (before, after) on both axes."""
    channels = x.shape[1]
    weight = kernel.to(x.dtype).expand(channels, 1, -1, -1)
    if isinstance(padding, tuple):
        before, after = padding
        x = F.pad(x, (before, after, before, after))
        padding = 0
    return F.conv2d(x, weight, stride=stride, padding=padding, groups=channels)


def upsample2(x: Tensor, kernel4: Tensor) -> Tensor:
    """Enlarge (n, c, h, w) to (n, c, 2h, 2w) by zero insertion and the FIR filter; `kernel4` sums to 4."""
    channels = x.shape[1]
    weight = kernel4.to(x.dtype).expand(channels, 1, -1, -1)
    return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=channels)


def channels_last(module: nn.Module) -> None:
    """Store the kernels of a module channels-last, in place: the layout in which convolutions are fastest."""
    cast(Any, module).to(memory_format=torch.channels_last)  # `Module.to` is typed without it


def pixel_norm(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Scale each row of x (n, d), or each pixel of x (n, d, h, w), to unit mean square."""
    return x * (x.square().mean(dim=1, keepdim=True) + eps).rsqrt()


class Scaled(nn.Module):
    """A layer whose stored weight is scaled at run time; `fold` does that once, until the weight changes."""

    weight: nn.Parameter
    _folded: Tensor | None = None
    _of: tuple[object, ...] = ()

    def scale(self) -> float:
        """What the weight is multiplied by."""
        raise NotImplementedError

    def scaled(self) -> Tensor:
        """The weight as it is used."""
        if self._folded is not None and self._of == self._state():
            return self._folded
        return self.weight * self.scale()

    def fold(self) -> None:
        """Scale the weight once; a weight that is changed, moved or cast later is scaled in every pass again."""
        self._folded = (self.weight * self.scale()).detach()
        self._of = self._state()

    def _state(self) -> tuple[object, ...]:
        return self.weight._version, self.weight.data_ptr(), self.weight.device, self.weight.dtype


def fold(module: nn.Module) -> None:
    """Scale the kernels of a frozen network once instead of in every pass; the pictures stay the same, bit for bit."""
    for layer in module.modules():
        if isinstance(layer, Scaled):
            layer.fold()


def freeze(module: nn.Module, device: torch.device) -> None:
    """Make a network ready to answer, in place: on the device, in evaluation mode, without gradients of its weights, its kernels
    channels-last (else every convolution sorts them anew) and folded.
    """
    module.to(device).eval().requires_grad_(False)
    channels_last(module)
    fold(module)


class EqualLinear(Scaled):
    """Dense layer whose stored weight is scaled at run time by lr_multiplier / sqrt(fan_in) (Karras et al., 2018).

    With `activate`, a leaky ReLU of slope 0.2 and gain sqrt(2) follows.
    """

    def __init__(
        self, fan_in: int, fan_out: int, bias: float = 0.0, lr_multiplier: float = 1.0, activate: bool = False
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((fan_out,), bias / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(fan_in)
        self.bias_gain = lr_multiplier
        self.activate = activate

    def scale(self) -> float:
        return self.weight_gain

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.scaled(), self.bias * self.bias_gain)
        return F.leaky_relu(x, 0.2) * SQRT2 if self.activate else x


class EqualConv2d(Scaled):
    """Convolution with equalised learning rate; `down` halves the size behind the FIR filter, as in the discriminator."""

    fir: Tensor

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        size: int,
        down: bool = False,
        bias: bool = True,
        activate: bool = True,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, size, size))
        self.bias = nn.Parameter(torch.zeros(channels_out)) if bias else None
        self.gain = 1.0 / math.sqrt(channels_in * size * size)
        self.size, self.down, self.activate = size, down, activate
        self.register_buffer("fir", fir_kernel(), persistent=False)

    def scale(self) -> float:
        return self.gain

    def forward(self, x: Tensor) -> Tensor:
        weight = self.scaled()
        if not self.down:
            x = F.conv2d(x, weight, self.bias, padding=self.size // 2)
        elif self.size == 1:  # blur and decimate first: the same picture for a quarter of the work
            x = F.conv2d(fir(x, self.fir, padding=1, stride=2), weight, self.bias)
        else:
            x = F.conv2d(fir(x, self.fir, padding=2), weight, self.bias, stride=2)
        return F.leaky_relu(x, 0.2) * SQRT2 if self.activate else x


class ModulatedConv2d(Scaled):
    """Convolution whose input channels are scaled by a style, outputs optionally renormalised (StyleGAN2, section 2.2).

    Written as scale-input, convolve, scale-output: equal to modulating the kernel per sample, but one plain convolution
    serves the whole batch.

    Args:
        channels_in, channels_out, size: the kernel's shape.
        w_dim: size of the latent w that the style is an affine function of.
        demodulate: divide by the expected standard deviation of each output channel (off for toRGB).
        up: double the size (transposed convolution, then the FIR filter).
    """

    fir4: Tensor
    _energy: Tensor | None = None

    def __init__(
        self, channels_in: int, channels_out: int, size: int, w_dim: int, demodulate: bool = True, up: bool = False
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, size, size))
        self.affine = EqualLinear(w_dim, channels_in, bias=1.0)
        self.gain = 1.0 / math.sqrt(channels_in * size * size)
        self.size, self.demodulate, self.up = size, demodulate, up
        self.register_buffer("fir4", fir_kernel(gain=4.0), persistent=False)

    def scale(self) -> float:
        return self.gain

    def energy(self, weight: Tensor) -> Tensor:
        """Sum of squares of each pair of channels, (channels_in, channels_out)."""
        if self._energy is not None and weight is self._folded:
            return self._energy
        return weight.square().sum(dim=(2, 3)).t()

    def fold(self) -> None:
        super().fold()
        weight = self.scaled()
        self._energy = weight.square().sum(dim=(2, 3)).t()

    def convolve(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor | None]:
        """The convolution before its output scale, and that scale (n, channels_out, 1, 1) or None."""
        scale_out = None
        with torch.autocast(x.device.type, enabled=False):  # styles are cheap and want full precision
            style = self.affine(w.float())
            weight = self.scaled()
            if self.demodulate:
                energy = style.square() @ self.energy(weight)
                scale_out = (energy + 1e-8).rsqrt()[:, :, None, None]
        x = x * style[:, :, None, None].to(x.dtype)
        if self.up:
            x = F.conv_transpose2d(x, weight.transpose(0, 1).to(x.dtype), stride=2)
            x = fir(x, self.fir4, padding=1)
        else:
            x = F.conv2d(x, weight.to(x.dtype), padding=self.size // 2)
        return x, scale_out

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x (n, channels_in, h, w), w (n, w_dim) -> (n, channels_out, h, w), or twice the size with `up`."""
        x, scale_out = self.convolve(x, w)
        return x if scale_out is None else x * scale_out.to(x.dtype)
