"""A session: one warm method, one photo at a time, more candidates, handles, and an end to what is running."""

from __future__ import annotations

import pytest
import torch

import preimage
from preimage.errors import MethodError, OperatorError
from preimage.invert.pulse import Pulse
from preimage.session import Session


@pytest.fixture
def session(tiny_prior) -> Session:
    session = Session(Pulse(prior=tiny_prior, device="cpu", batch=2))
    session.configure({"steps": 8})
    return session


def test_more_candidates_of_one_photo(session, tiny_lr):
    session.pose(tiny_lr)
    assert [part.seeds for part in session.more("0-2")] == [(0, 1), (2,)]
    assert [c.seeds for c in session.candidates] == [(0,), (1,), (2,)]
    assert [part.seeds for part in session.more("1-3", again=False)] == [(3,)]
    alone = preimage.upsample(tiny_lr, 2, method=session.method, steps=8)
    assert float((alone.images - session.candidates[2].images).abs().max()) <= 2.01 / 255
    varied = session.steer(1, {"noise": 1.0}, "0-1")
    assert len(varied) == 2
    assert len(session.candidates) == 6
    assert torch.equal(varied.latents["latents"][0], session.candidates[1].latents["latents"][0])
    session.pose(tiny_lr)
    assert session.candidates == []


def test_stop_ends_what_is_running(tiny_prior, tiny_lr):
    session = Session(Pulse(prior=tiny_prior, device="cpu", batch=2), lambda step: step.index == 2 and session.stop())
    session.configure({"steps": 50, "stop": 0.0})
    session.pose(tiny_lr)
    parts = list(session.more("0-5"))
    assert [part.seeds for part in parts] == [(0, 1)]
    assert parts[0].steps.tolist() == [3, 3]
    session._listener = None
    assert [part.seeds for part in session.more("4")] == [(4,)]  # a stop is for once


def test_what_cannot_work_says_so(session, tiny_lr):
    with pytest.raises(MethodError, match="call pose"):
        session.more(0)
    with pytest.raises(OperatorError, match="square faces"):
        session.pose(torch.zeros(3, 4, 6))
    with pytest.raises(MethodError, match="unknown control stepz"):
        session.configure({"stepz": 1})
    plain = Session(preimage.load("bicubic", resolution=16))
    plain.pose(tiny_lr)
    with pytest.raises(MethodError, match="cannot go on from latents"):
        plain.more(0, at={"latents": torch.zeros(1)})
    assert [part.seeds for part in plain.more("0-7")] == [(0,)]
