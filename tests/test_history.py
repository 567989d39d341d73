"""Undo and redo: the present is always a state that was there, unchanged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from preimage.history import MOST, History, State


@given(st.lists(st.sampled_from(["then", "undo", "redo", "instead"]), max_size=30))
def test_history_is_two_stacks(actions):
    history, before, after = History(), [], []  # the oracle: what lies behind, and what was undone
    now = history.now
    for i, action in enumerate(actions):
        state = State(str(i))
        if action == "then":
            before, after, now = [*before, now], [], state
            history = history.then(state)
        elif action == "instead":
            now = state
            history = history.instead(state)
        elif action == "undo":
            if before:
                after, now, before = [now, *after], before[-1], before[:-1]
            history = history.undo()
        else:
            if after:
                before, now, after = [*before, now], after[0], after[1:]
            history = history.redo()
        assert history.now is now
        assert list(history.states) == [*before, now, *after]


def test_the_oldest_are_forgotten_and_a_dropped_one_leaves_what_was_before():
    history = History()
    for i in range(MOST + 10):
        history = history.then(State(str(i)))
    assert len(history.states) == MOST
    assert history.now.did == str(MOST + 9)
    assert history.dropped().now.did == str(MOST + 8)
    assert History().dropped().now is History().states[0] or len(History().dropped().states) == 1
