"""The explorer without a page: every step back, files that prove themselves, work that ends when nobody wants it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

import preimage
from preimage.crops import Square
from preimage.drawing import _portions
from preimage.errors import InputError, MethodError
from preimage.explorer import Explorer
from preimage.faces.photo import enlarge
from preimage.files import read_provenance, save_png
from preimage.image import read_image
from preimage.invert.posterior import Posterior
from preimage.invert.pulse import Pulse
from preimage.saving import save_card
from preimage.semantics.labels import LABELS
from preimage.verify import verify_folder


@pytest.fixture(scope="module")
def method() -> Posterior:
    return Posterior(device="cpu")


@pytest.fixture
def photo() -> torch.Tensor:
    return read_image(Path(__file__).parents[1] / "examples" / "face0.png").pixels


@pytest.fixture
def explorer(method, photo) -> Explorer:
    found = Explorer(method)
    found.open(photo, "face")
    return found


def done(progress) -> int:
    return max(p.made for p in progress)


def test_every_step_goes_back_to_the_very_state_and_forth(explorer):
    explorer.choose(None)
    states = [explorer.now]
    for act in (
        lambda: done(explorer.draw(3)),
        lambda: done(explorer.steer({"detail": 0.5}, 2)),
        lambda: done(explorer.between(0, 2)),
        lambda: explorer.adjust(Square(8, 8, 12), 12),
        lambda: explorer.configure(temperature=0.5),
        lambda: done(explorer.draw(1)),
    ):
        act()
        states.append(explorer.now)
    for state in reversed(states[:-1]):
        assert explorer.undo() is state
    for state in states[1:]:
        assert explorer.redo() is state
    assert not explorer.can_redo
    assert [len(state.cards) for state in states] == [0, 3, 5, 7, 0, 0, 1]
    assert all(bool(card.candidate.exact[0]) for state in states for card in state.cards)


def test_a_new_step_after_undo_forgets_what_was_undone(explorer):
    done(explorer.draw(1))
    explorer.undo()
    done(explorer.draw(2))
    assert not explorer.can_redo
    assert len(explorer.now.cards) == 2


def test_seeds_go_on_and_are_addresses(explorer, method, photo):
    assert done(explorer.draw(2)) == 2
    assert done(explorer.draw(2)) == 2
    assert [card.candidate.seeds[0] for card in explorer.now.cards] == [0, 1, 2, 3]
    alone = preimage.upsample(photo, 3, method=method)
    assert torch.equal(alone.images[0], explorer.now.cards[3].candidate.images[0])
    sure = explorer.certainty()
    assert sure is not None
    assert sure.shape == (128, 128)
    done(explorer.steer({"outline": 1.0}))
    assert torch.equal(explorer.certainty(), sure)  # what is turned says nothing about the photo


def test_every_file_that_is_saved_proves_itself(explorer, tmp_path):
    done(explorer.draw(3))
    done(explorer.steer({"detail": 1.0}, 2))
    done(explorer.between(0, 2))
    files = explorer.save(tmp_path / "results")
    assert len(set(files)) == 7
    found = verify_folder(tmp_path / "results")
    assert (found.exact, found.problems) == (7, [])
    assert (tmp_path / "results" / "face" / "grid.png").is_file()
    card = explorer.now.cards[3]
    assert read_provenance(save_card(card, tmp_path / card.file))["story"] == "seed 0, detail 1 (1)"
    assert explorer.proof().exact
    assert "every byte" in explorer.proof().text


def test_the_few_that_differ_most_of_many(explorer):
    done(explorer.draw(2))
    before = explorer.now
    assert done(explorer.pick(3, 12)) == 12
    cards = explorer.now.cards
    assert len(cards) == 3
    assert sum(float(card.candidate.share[0]) for card in cards) == pytest.approx(1)
    assert "%" in cards[0].story
    many = preimage.upsample(explorer.lr, range(12), method=explorer.method)
    assert float((explorer.certainty() - many.certainty()).abs().max()) < 0.02  # of all that were drawn
    done(explorer.draw(1))
    assert len(explorer.open_directions()) == 3  # of picked ones and others together
    explorer.undo()
    assert explorer.undo() is before
    with pytest.raises(InputError, match="fewer than are drawn"):
        explorer.pick(8, 8)
    assert explorer.now is before


def test_a_candidate_moves_along_what_is_left_open_and_stays_exact(explorer, tmp_path):
    done(explorer.draw(2))
    with pytest.raises(InputError, match="draw three or more"):
        done(explorer.move(0, 1))
    done(explorer.draw(3))
    explorer.choose(1)
    found, before = explorer.open_directions(), explorer.now.cards[1].candidate
    assert len(found) == 4
    done(explorer.move(1, -0.5))
    card = explorer.now.cards[-1]
    assert (card.story, card.fresh, explorer.now.chosen) == ("seed 1, direction 2 -0.5", False, 5)
    assert bool(card.candidate.exact[0])
    assert float((card.candidate.images[0] - (before.images[0] - 0.5 * found.directions[1])).abs().mean()) < 0.02
    done(explorer.move(0, 1))  # from the moved one
    assert explorer.now.card.candidate.edit.count("direction") == 2
    done(explorer.draw(1))
    assert explorer.now.cards[-1].story == "seed 5"
    explorer.choose(5)
    with pytest.raises(MethodError):
        done(explorer.steer({"detail": 0.5}))
    files = explorer.save(tmp_path / "out")
    assert verify_folder(tmp_path / "out").exact == len(files) == 8


def test_between_begins_and_ends_at_the_two(explorer):
    done(explorer.draw(2))
    one, two = (card.candidate for card in explorer.now.cards)
    ends = preimage.candidates.Candidates.cat(list(explorer._session.between(one, two, [0.0, 0.5, 1.0])))
    for row, end in ((0, one), (2, two)):  # other batches add up in another order
        assert float((ends.images[row] - end.images[0]).abs().max()) <= 2.01 / 255
    apart = [float((ends.images[1] - end.images[0]).abs().mean()) for end in (one, two)]
    assert max(apart) < float((one.images - two.images).abs().mean())
    assert bool(ends.exact.all())


def test_a_search_is_seen_and_stopped(tiny_prior, tiny_lr):
    explorer = Explorer(Pulse(prior=tiny_prior, device="cpu", batch=2))
    explorer.configure(steps=100_000, stop=0.0)
    explorer.open(tiny_lr)
    seen = []
    for progress in explorer.draw(4):
        seen.append(progress)
        if progress.preview is not None:
            assert progress.preview.shape[1:] == (3, 16, 16)
            explorer.stop()
    assert any(p.of == 100_000 for p in seen)
    assert len(explorer.now.cards) <= 1  # of a search that was stopped at once


def test_who_stops_listening_stops_the_work_and_leaves_no_trace(tiny_prior, tiny_lr):
    explorer = Explorer(Pulse(prior=tiny_prior, device="cpu", batch=2))
    explorer.configure(steps=100_000, stop=0.0)
    explorer.open(tiny_lr)
    before = explorer.now
    working = explorer.draw(4)
    next(working)
    working.close()
    for thread in [t for t in threading.enumerate() if t.name == "preimage-work"]:
        thread.join(20)
        assert not thread.is_alive()
    assert explorer.now is before
    assert explorer.lock.acquire(timeout=1)


def test_two_explorers_share_a_method_and_mix_nothing(method, photo):
    lock = threading.RLock()
    one, other = Explorer(method, lock=lock), Explorer(method, lock=lock)
    one.open(photo)
    other.open(photo.flip(-1))
    threads = [threading.Thread(target=lambda e=e: done(e.draw(5))) for e in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for explorer, lr in ((one, photo), (other, photo.flip(-1))):
        assert len(explorer.now.cards) == 5
        assert all(float((card.candidate.lr - lr).abs().max()) < 1e-6 for card in explorer.now.cards)


def test_undo_while_it_draws_keeps_nothing_of_it(tiny_prior, tiny_lr):
    explorer = Explorer(Pulse(prior=tiny_prior, device="cpu", batch=1))
    explorer.configure(steps=200, stop=0.0)
    explorer.open(tiny_lr)
    before = explorer.now
    for progress in explorer.draw(50):
        if progress.made == 1 and explorer.now is not before:
            explorer.undo()
    assert explorer.now is before


def test_regions_are_painted(photo):
    explorer = Explorer("deepsee", device="cpu")
    explorer.open(photo)
    assert explorer.regions() is None
    done(explorer.draw(1))
    labels = explorer.regions()
    assert labels.shape == (128, 128)
    hair = next(i for i, label in enumerate(LABELS) if label.name == "hair")
    painted = labels.clone()
    painted[:40] = hair
    done(explorer.repaint(painted))
    assert torch.equal(explorer.regions(), painted)
    assert bool(explorer.now.card.candidate.exact[0])
    assert (
        float(
            (explorer.now.cards[0].candidate.images - explorer.now.cards[1].candidate.images)[..., :40, :].abs().mean()
        )
        > 0
    )
    reference = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(1))
    explorer.guide("reference", reference)
    assert explorer.now.cards == ()
    assert done(explorer.draw(1)) == 1
    explorer.guide("reference", None)
    assert explorer.now.guides == {}


def test_a_method_without_chance_makes_one(photo):
    explorer = Explorer("bicubic", resolution=64)
    explorer.open(photo)
    assert done(explorer.draw(8)) == 1
    assert done(explorer.draw(8)) == 0
    assert len(explorer.now.cards) == 1
    with pytest.raises(MethodError, match="no handles"):
        done(explorer.steer({"detail": 1.0}))


def test_a_larger_photo_is_brought_to_what_the_network_learned(method):
    explorer = Explorer(method)
    explorer.open(torch.rand(3, 90, 200))
    assert explorer.lr.shape == (3, 16, 16)
    square = Square(45, 45, 40)
    assert explorer.most_pixels(square) == 40
    explorer.adjust(square, 999)
    assert explorer.lr.shape == (3, 40, 40)


def test_faces_of_a_photo_are_taken_by_pointing_and_put_back(method):
    crowd = torch.rand(3, 90, 200, generator=torch.Generator().manual_seed(0))
    faces = [Square(40, 45, 40, 5), Square(140, 45, 60)]
    explorer = Explorer(method, find=lambda _: faces)
    explorer.open(crowd)
    assert explorer.now.square == faces[1]  # the largest
    assert explorer.squares() == ((faces[1], faces[0]), 0)
    explorer.point(35, 50)
    assert explorer.now.square == faces[0]
    explorer.point(190, 10)  # no face there
    assert explorer.now.square == Square(190, 10, 40, 5)
    assert explorer.squares()[1] == 2
    explorer.point(140, 45)
    assert explorer.pasted() is None
    done(explorer.draw(1))
    pasted = explorer.pasted()
    assert pasted.shape == (3, 270, 600)  # 128 pixels of the candidate in the place of 60
    enlarged = enlarge(crowd, 3)
    assert torch.equal(pasted[:, :, :330], enlarged[:, :, :330])
    assert float((pasted - enlarged).abs().max()) > 0.1


def test_what_cannot_be_done_says_so(method, tmp_path, photo):
    explorer = Explorer(method)
    with pytest.raises(InputError, match="no photo is open"):
        explorer.draw(1)
    with pytest.raises(InputError, match="no photo is open"):
        explorer.adjust(Square(1, 1, 2))
    explorer.open(photo)
    with pytest.raises(MethodError, match="choose one first"):
        explorer.steer({"detail": 1.0})
    with pytest.raises(InputError, match="draw some first"):
        explorer.save(tmp_path)
    with pytest.raises(MethodError, match="unknown control"):
        explorer.configure(warmth=1)
    done(explorer.draw(1))
    with pytest.raises(MethodError, match="choose another candidate"):
        explorer.between(0)
    with pytest.raises(MethodError, match="choose deepsee"):
        explorer.repaint(torch.zeros(128, 128))
    with pytest.raises(MethodError, match="no candidate 7"):
        explorer.choose(7)


def test_an_error_of_the_work_reaches_who_listens_and_leaves_no_trace(explorer):
    done(explorer.draw(1))
    before = explorer.now
    with pytest.raises(MethodError, match="must lie in"):
        done(explorer.steer({"detail": 7.0}))
    assert explorer.now is before


def test_portions_begin_small():
    assert _portions(8, 16) == [1, 3, 4]
    assert _portions(20, 2) == [1, *[2] * 9, 1]
    assert _portions(0, 4) == []


def test_explore_draws_and_shows_png(photo, tmp_path):
    save_png(tmp_path / "me.png", photo)
    found = preimage.explore(tmp_path / "me.png", 2, temperature=0.5)
    assert found.now.photo.name == "me"
    assert found.now.settings.temperature == 0.5
    shown = found._repr_html_()
    assert shown.count("data:image/png;base64,") == 4  # input, two candidates, what is certain
    assert "2 of 2 candidates shrink to the input" in shown
    assert "No photo is open" in Explorer(found.method)._repr_html_()
