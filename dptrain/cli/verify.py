"""``dptrain verify``."""

import secrets
import sys
from typing import Annotated

from cyclopts import Parameter

from dptrain.audit.history import History, read_history
from dptrain.audit.replay import Replay
from dptrain.audit.verify import Verified
from dptrain.audit.verify import verify as verified
from dptrain.cli.completion import DataSet, TrainedRun
from dptrain.cli.flags import CodeFlags, warn_of_change, whole_number
from dptrain.cli.output import print_json
from dptrain.errors import EXIT_CHECK_FAILED, EXIT_INCONCLUSIVE, UsageError
from dptrain.own.origin import Named
from dptrain.report.audit import print_verification, window_line
from dptrain.runfolder import unchanging

Whole = Annotated[int | None, Parameter(converter=whole_number)]


def verify(
    run: TrainedRun,
    /,
    *,
    windows: Whole = None,
    seed: Whole = None,
    dataset: DataSet = None,
    code: CodeFlags | None = None,
    json: bool = False,
) -> int:
    """Re-execute a run in one process, and compare it with what it recorded.

    This compares every digest and loss in metrics.jsonl, and the weights and the optimizer's state
    in every checkpoint. Exit code 0: all is the same to the last bit; 3: something differs; 4: it
    differs, perhaps because the run was computed with another processor or NumPy.

    Args:
        run: A run folder.
        windows: Re-execute only so many of the windows between checkpoints, chosen at random.
        seed: Chooses the windows; by default drawn and printed.
        dataset: Where the data are that the run was trained on, if they have moved.
        code: For a network of your own.
        json: Print the result as one JSON object.
    """
    if windows is not None and windows < 1:
        raise UsageError(f"--windows {windows} is nothing to re-execute; give 1 or more")
    if seed is None:
        seed = secrets.randbelow(2**32)
    if windows is not None:
        _tell(f"windows   {windows}, chosen by --seed {seed}")
    named = code.named() if code is not None else None
    with unchanging(run):
        history = accepted(read_history(run), named)
        replay = Replay(history, named, dataset)
        found = verified(history, replay, count=windows, seed=seed, tell=_tell_window)
    if json:
        print_json(found.plain())
    else:
        print_verification(found)
    if found.inconclusive:
        return EXIT_INCONCLUSIVE
    return 0 if found.same else EXIT_CHECK_FAILED


def accepted(history: History, code: Named | None) -> History:
    """Return a history that accepts the user's code as it is; say so where it has changed."""
    return history.with_code(warn_of_change(history.experiment, code).model_digest)


def _tell_window(done: Verified) -> None:
    _tell(window_line(done))


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - the command line's own output
