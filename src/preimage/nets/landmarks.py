"""Where 68 points of an aligned face are, by a small published network that the user brings (onnxruntime, on the CPU)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import InputError, WeightsError


class Landmarks68:
    """68 face landmarks by a small network (slim-160 of Peppa-Facial-Landmark, Apache-2.0), as Gaussian heat-maps.

    The network gives coordinates; each becomes a peak of height 1 on a `side` x `side` map of the whole picture. Two peaks
    at a distance of d pixels differ by 2 π σ² (1 − exp(−d² / 4σ²)) in equation 7, which therefore stops growing beyond
    some four σ. With the width that heat-map networks are trained on (1 of 64, Newell et al., 2016) strangers, whose
    landmarks lie 2.3 pixels apart in the median, already reach .65 of that end; with the default of 2 they reach .35.
    Runs in onnxruntime on the CPU, one picture at a time: for measuring, it has no gradients.

    It was trained on crops around a detected face; here one crop serves all FFHQ-aligned faces: resized to 212 x 212, rows
    44 to 204, columns 26 to 186. Measured on 73 validation faces of 256 pixels: their landmarks and those of their mirror
    images, mirrored back, lie 2.1 pixels apart (95th percentile 4.8). Eyes, nose and mouth corners lie a median of 4.8
    pixels from those of a face detector (YuNet), which is itself 4 pixels from its mirror image. Over 20 crops (sides
    .66 to .82 of the picture, centres .56 to .62 of its height) these two run from 2.1 to 2.4 and from 4.8 to 5.0: the
    choice hardly matters, only the smallest side is worse. Reduction to 64 pixels moves the landmarks by 1.6. Brightness
    goes in from -1 to 1, as in the network's training code: from 0 to 1, mirror images are 2.6 pixels apart, not 1.9 (61
    faces).

    Args:
        path: landmarks68-slim160.onnx.
        side: of the heat-maps, pixels.
        sigma: of the peaks, pixels of the heat-map.

    Raises:
        WeightsError: no such file, not this network, or onnxruntime is not installed.
        InputError: a side or sigma that is not positive.
    """

    SIZE, TOP, LEFT, INPUT = 212, 44, 26, 160

    def __init__(self, path: str | Path, side: int = 64, sigma: float = 2.0):
        if side < 1 or not sigma > 0:
            raise InputError(f"landmark heat-maps: side and sigma must be positive, not {side} and {sigma}.")
        self.side, self.sigma, self.name = side, sigma, "slim68"
        self._session = _open_onnx(Path(path))
        shapes = [tuple(port.shape) for port in (*self._session.get_inputs()[:1], *self._session.get_outputs())]
        if shapes != [(1, 3, self.INPUT, self.INPUT), (1, 143)]:
            raise WeightsError(f"{path}: not the 68-landmark network; its input and outputs are {shapes}.")

    def points(self, x: Tensor) -> Tensor:
        """Landmarks of aligned faces (n, 3, s, s), RGB in [0, 1]: (n, 68, 2), x and y as fractions of the picture.

        The order is that of iBUG 300-W: 17 of the jaw, 10 of the brows, 9 of the nose, 12 of the eyes, 20 of the mouth.

        Raises:
            InputError: not a batch of square RGB pictures.
        """
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] != x.shape[3]:
            raise InputError(f"landmark network: needs square aligned faces (n, 3, s, s), got {tuple(x.shape)}.")
        size = (self.SIZE, self.SIZE)
        faces = F.interpolate(x.float(), size, mode="bilinear", antialias=True, align_corners=False)
        faces = faces[:, :, self.TOP : self.TOP + self.INPUT, self.LEFT : self.LEFT + self.INPUT].flip(1)  # to BGR
        inputs = ((faces * 255 - 127) / 127).contiguous().cpu().numpy()
        port = self._session.get_inputs()[0].name
        raw = [torch.from_numpy(self._session.run(None, {port: face[None]})[0]) for face in inputs]
        points = torch.cat(raw)[:, :136].view(-1, 68, 2) * self.INPUT
        return (points + torch.tensor([float(self.LEFT), float(self.TOP)])) / self.SIZE

    def heatmaps(self, x: Tensor) -> Tensor:
        """Maps (n, 68, side, side) of aligned faces (n, 3, s, s), RGB in [0, 1]."""
        return gaussian_heatmaps(self.points(x), self.side, self.sigma)


def gaussian_heatmaps(points: Tensor, side: int = 64, sigma: float = 2.0) -> Tensor:
    """Points (n, L, 2), x and y as fractions of the picture, as peaks of height 1: (n, L, side, side).

    Args:
        points: a point (x, y) lies in the middle of the pixel in column i where x is (i + 0.5) / side.
        side: of the maps, pixels.
        sigma: standard deviation of the peaks, pixels.
    """
    middles = torch.arange(side, device=points.device) + 0.5
    lines = torch.exp(-(middles - points[..., None] * side).square() / (2 * sigma**2))
    return lines[:, :, 1, :, None] * lines[:, :, 0, None, :]


def _open_onnx(path: Path) -> Any:
    if not path.is_file():
        raise WeightsError(f"{path}: no such file. The landmark network is landmarks68-slim160.onnx; give its path.")
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise WeightsError(
            f'{path}: reading it needs onnxruntime, which is not installed; pip install "preimage[faces]"'
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # the file makes it print a warning per layer
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, without a common base
        raise WeightsError(f"{path}: not a readable ONNX file ({error}); fetch it again.") from error
