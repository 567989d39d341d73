"""Every error a user can meet. Each message says what is wrong, with which file or value, and how to mend it."""

from __future__ import annotations


class PreimageError(Exception):
    """Base of all errors raised on purpose by this package."""


class InputError(PreimageError, ValueError):
    """An input picture or tensor that cannot be used: unreadable, empty, wrong shape, NaN, out of range."""


class OperatorError(PreimageError, ValueError):
    """A downscaling operator that does not exist or does not fit the picture."""


class OutputError(PreimageError, OSError):
    """A result that could not be written: read-only folder, full disk."""


class OccupiedError(OutputError):
    """A result whose place is taken by something else; results in other places can still be written."""


class WeightsError(PreimageError, ValueError):
    """Weights that are missing, damaged, or made for another architecture."""


class MethodError(PreimageError, ValueError):
    """A method that does not exist, or that cannot do what was asked of it."""


class RecipeError(PreimageError, ValueError):
    """A training recipe that is incomplete, contradicts itself, or does not fit the run it resumes."""
