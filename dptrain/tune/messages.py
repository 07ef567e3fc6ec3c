"""What a search and its lanes tell each other: lines of JSON, through a lane's input and output."""

from typing import Any

import msgspec

from dptrain.metrics.records import EpochRecord


class Order(msgspec.Struct, frozen=True, tag=True):
    """To a lane: carry out a trial.

    Attributes:
        number: of the trial.
        experiment: its settings, as plain data.
        execution: likewise.
        folder: of its run; one that has a checkpoint is continued, any other begun anew.
        code: the network of the user's own that the search's command line names, ``FILE.py:NAME``
            with the file's whole path, or empty.
    """

    number: int
    experiment: dict[str, Any]
    execution: dict[str, Any]
    folder: str
    code: str = ""


class GoOn(msgspec.Struct, frozen=True, tag=True):
    """To a lane: train on after the evaluation that was told."""

    number: int


class StopTrial(msgspec.Struct, frozen=True, tag=True):
    """To a lane: end the trial after the present step, with a checkpoint."""

    number: int


class TrialEvaluated(msgspec.Struct, frozen=True, tag=True):
    """From a lane: an evaluation, after which it waits for `GoOn` or `StopTrial`."""

    number: int
    record: EpochRecord


class Warned(msgspec.Struct, frozen=True, tag=True):
    """From a lane: something is wrong that does not stop the trial."""

    number: int
    text: str


class Ended(msgspec.Struct, frozen=True, tag=True):
    """From a lane: the trial is over.

    Attributes:
        number: of the trial.
        seconds: that it took.
        finished: whether it was trained to its end.
        exit_code: as that of ``dptrain train``; other than 0 where it failed.
        message: why it failed.
    """

    number: int
    seconds: float
    finished: bool = False
    exit_code: int = 0
    message: str = ""


ToLane = Order | GoOn | StopTrial
FromLane = TrialEvaluated | Warned | Ended

encode = msgspec.json.Encoder().encode
decode_to_lane = msgspec.json.Decoder(ToLane).decode
decode_from_lane = msgspec.json.Decoder(FromLane).decode
