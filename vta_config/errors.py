"""The errors users see, in one form: *where: what must hold, got what; what to do*.

Every error this project raises about its input is a `FlowError` of one of the kinds below; the
command line prints its sentence and exits with 2. `assert` is kept for our own mistakes.
"""

from __future__ import annotations

from typing import Any, Final

from vta_config.text import printable

_NOTHING: Final = object()
#: Characters that a sentence shows of one of its parts; a name may have any number.
PART_CHARS: Final = 1000


class FlowError(Exception):
    """Say where something is wrong, what must hold there, what was found and what to do.

    Each part becomes one line of printable text, and a very long one is cut in its middle: names
    come from files that anybody may have written.

    Parameters
    ----------
    where : str or Origin
        The place: a file, a field, a layer, an instruction.
    must : str
        What must hold, e.g. ``"must be in [0, 15]"``.
    got : object, optional
        What was found instead; left out of the sentence when not given.
    hint : str or Origin, optional
        What to do, or where it happened.
    """

    def __init__(
        self, where: object, must: str, *, got: object = _NOTHING, hint: object = ""
    ) -> None:
        """Build the sentence from its four parts."""
        sentence = f"{_part(where)}: {_part(must)}"
        if got is not _NOTHING:
            sentence += f", got {_part(got)}"
        if advice := _part(hint):
            sentence += f"; {advice}"
        super().__init__(sentence)

    @classmethod
    def from_sentence(cls, sentence: str) -> FlowError:
        """Wrap a sentence that already has the form (the C++ core writes its own)."""
        error = cls.__new__(cls)
        Exception.__init__(error, printable(sentence, 4 * PART_CHARS))
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as a sentence: its parts are no longer there."""
        return type(self).from_sentence, (str(self),), self.__dict__


def _part(value: object) -> str:
    return printable(str(value), PART_CHARS)


class ConfigError(FlowError):
    """A machine description that cannot be built or used."""


class UnsupportedModelError(FlowError):
    """A model that the importer, the passes or the compiler cannot take."""


class CalibrationError(FlowError):
    """Calibration or evaluation data that cannot be used."""


class LimitError(FlowError):
    """Limits on bits that contradict each other, or that no choice of bits can keep."""


class CapacityError(FlowError):
    """Something that does not fit the machine's buffers, memory or number ranges."""


class EncodeError(FlowError):
    """A value that does not fit its instruction field."""


class DecodeError(FlowError):
    """Bytes or text that are not a legal instruction."""


class HazardError(FlowError):
    """A program that reads what was never written, or races with itself."""


class DeadlockError(FlowError):
    """A program whose modules wait for tokens that never come."""


class DriverError(FlowError):
    """A driver library that failed, so that nothing more is run on it."""


class ClusterError(FlowError):
    """Workers, on this machine or on others, that cannot be used or that are lost."""


class ArtifactError(FlowError):
    """A file of ours that is damaged, missing or of another version."""


class DownloadError(FlowError):
    """A download that failed or did not match its checksum."""
