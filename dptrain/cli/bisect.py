"""``dptrain bisect``."""

from contextlib import ExitStack

from dptrain.audit.bisect import bisect as bisected
from dptrain.audit.history import read_history
from dptrain.cli.completion import DataSet, TrainedRun
from dptrain.cli.flags import CodeFlags
from dptrain.cli.output import print_json
from dptrain.cli.verify import accepted
from dptrain.errors import EXIT_CHECK_FAILED, EXIT_INCONCLUSIVE
from dptrain.report.audit import print_bisection
from dptrain.runfolder import unchanging


def bisect(
    one: TrainedRun,
    other: TrainedRun,
    /,
    *,
    dataset: DataSet = None,
    code: CodeFlags | None = None,
    json: bool = False,
) -> int:
    """Find the first step, and in it the layer and the shard, at which two runs differ.

    Their records are compared first; if they differ, both runs are re-executed in one process, in
    lockstep. Exit code 0: they are the same; 3: they differ; 4: the records do not tell and the
    data for a re-execution are gone, or a run was computed with another processor or NumPy.
    To find the step by the records alone, train with --record-digests --log-every 1.

    Args:
        one: A run folder.
        other: A run folder.
        dataset: Where the data are that the runs were trained on, if they have moved.
        code: For a network of your own, the same for both runs.
        json: Print the result as one JSON object.
    """
    named = code.named() if code is not None else None
    with ExitStack() as stack:
        for each in (one, other):
            stack.enter_context(unchanging(each))
        first, second = (accepted(read_history(each), named) for each in (one, other))
        found = bisected(first, second, named, dataset)
    if json:
        print_json(found.plain())
    else:
        print_bisection(found)
    if found.inconclusive:
        return EXIT_INCONCLUSIVE
    return 0 if found.same else EXIT_CHECK_FAILED
