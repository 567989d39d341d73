"""Which metrics a run takes: all at hand, or those named; the rest is listed with how to get it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from preimage.errors import MethodError, WeightsError
from preimage.measure.suite import NAMES, Suite, build_suite

SHARED = Path(__file__).resolve().parents[3] / "shared" / "weights"


def test_an_empty_folder_leaves_what_needs_no_network(tmp_path):
    suite = build_suite(weights=tmp_path)
    assert [m.name for m in suite.metrics] == [
        "psnr-rgb",
        "psnr-y",
        "ssim-rgb",
        "ssim-y",
        "ms-ssim-rgb",
        "niqe-faces64",
    ]
    assert suite.lpips is None
    assert not suite.sets
    assert suite.chooser is suite.metrics[0]
    assert set(suite.missing) == set(NAMES) - {m.name for m in suite.metrics}
    for name in ("lpips-alex", "lpips-vgg", "lpips-squeeze", "fid"):
        reason = suite.missing[name]
        assert str(tmp_path) in reason
        assert "MB" in reason
        assert "licence" in reason
        assert "preimage models convert" in reason


def test_what_was_named_must_be_there(tmp_path):
    with pytest.raises(WeightsError, match=r"95\.6 MB"):
        build_suite(["psnr-rgb", "fid"], tmp_path)
    with pytest.raises(MethodError, match="vmaf unknown; there are psnr-rgb"):
        build_suite(["vmaf"], tmp_path)
    assert [m.name for m in build_suite(["ssim-y"], tmp_path).metrics] == ["ssim-y"]
    assert Suite().chooser is None


@pytest.mark.weights
def test_stand_ins_keep_their_honest_names():
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent")
    suite = build_suite(["psnr-rgb", "lpips-squeeze", "identity", "fd-vgg"], SHARED)
    assert [m.name for m in suite.metrics] == ["psnr-rgb", "lpips-squeeze*", "identity-mobilefacenet"]
    assert suite.lpips_name == "lpips-squeeze*"
    assert suite.chooser is suite.metrics[1]
    faces = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(suite.metrics[1](faces, faces.flip(0)), suite.lpips.distance(faces, faces.flip(0)).double())
    assert torch.allclose(suite.embed()(faces).norm(dim=1), torch.ones(2), atol=1e-5)
    assert suite.sets["fd-vgg"]().names == ("fd-vgg", "kd-vgg")
