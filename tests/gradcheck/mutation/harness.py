"""How honest the checker is: mutants of the real source, of a seed that nobody tuned for.

    python -m tests.gradcheck.mutation.harness SEED COUNT

Samples mutants of functions that a short battery of runs goes through, and lets each loose in a
process of its own. Set apart are those that leave the battery as it is, those that change only its
last digits, and those that end it with an error or hang it, which anybody sees. Of the others it
is counted how many the checker finds, and how many it names rightly: see
`tests.gradcheck.mutation.judge`.
"""

import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.report import Report
from dptrain.gradcheck.verdict import Verdict
from dptrain.gradcheck.zoo.runner import checked
from dptrain.launch.fork_server import fork_server
from tests.gradcheck.mutation.battery import WORKERS, Run, Told, outcomes
from tests.gradcheck.mutation.judge import right
from tests.gradcheck.mutation.mutants import Mutant, described, infect, mutants
from tests.gradcheck.mutation.worker import traced

PROGRAM = ("-m", "tests.gradcheck.mutation.worker")
LONGEST = 120  # seconds for one mutant


class Fate(NamedTuple):
    """What came of a mutant.

    The fate is ``"equivalent"``, ``"rounding"`` where only last digits differ, ``"crash"``,
    ``"hang"``, ``"found"`` or ``"missed"``; ``run`` is what it changes first of the battery, and
    kind and sentence are of the mistake that the checker names first, rightly if ``named``.
    """

    mutant: str
    change: str
    fate: str
    run: str = ""
    kind: str = ""
    sentence: str = ""
    named: bool = False
    seconds: float = 0.0


def clean() -> tuple[dict[Run, Told], list[tuple[str, str]]]:
    """Return what the battery comes to without a mutant, and the functions that it runs."""
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder) / "names"
        program = (*PROGRAM, f"@{names}")
        with traced(str(names)):
            found = dict(outcomes(program, program))
        lines = set(names.read_text().splitlines())
    run = [(module, name) for module, _, name in (line.partition(":") for line in sorted(lines))]
    return found, run


def fate(mutant: Mutant, wanted: dict[Run, Told]) -> Fate:
    """Let a mutant loose in this process and its workers, and check what it has changed first."""
    told = Fate(str(mutant), described(mutant), "equivalent")
    infect(mutant)
    program = (*PROGRAM, str(mutant))
    with fork_server(program) as forks:
        try:
            for run, came in outcomes(program, forks):
                if came.digest != wanted[run].digest:
                    told = told._replace(run=f"{run.habitat}, {run.exchange}")
                    if "Error: " in came.digest:
                        return told._replace(fate="crash", sentence=came.digest)
                    if came.rounded_as(wanted[run]):
                        return told._replace(fate="rounding")
                    way = Way("star" if run.exchange == "star" else "shared", WORKERS)
                    return _judged(told, mutant, checked(run.habitat, way, forks))
        except Exception as error:  # noqa: BLE001 - whatever a mutant does, it is told
            return told._replace(fate="crash", sentence=f"{type(error).__name__}: {error}")
    return told


def _judged(told: Fate, mutant: Mutant, report: Report) -> Fate:
    if report.verdict is not Verdict.FAIL:
        return told._replace(fate="missed", sentence=report.verdict.name)
    found = [each for failure in report.failures for each in failure.diagnoses]
    if not found:
        return told._replace(fate="found")
    kind, sentence = found[0].kind, found[0].sentence
    named = right(mutant, kind, sentence)
    return told._replace(fate="found", kind=kind, sentence=sentence, named=named)


def apart(work: Callable[[], Fate], told: Fate) -> Fate:
    """Do work in a process of its own, with its own cache; return what it says, or how it ended."""
    began = time.perf_counter()
    reads, writes = os.pipe()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        child = os.fork()
        if not child:
            _work(work, writes, folder)
        os.close(writes)
        with os.fdopen(reads) as answer:
            text = answer.read()
        os.waitpid(child, 0)
    seconds = round(time.perf_counter() - began, 2)
    fields = json.loads(text) if text else {}
    found = Fate(**fields) if fields else told._replace(fate="hang")
    return found._replace(seconds=seconds)


def _work(work: Callable[[], Fate], writes: int, folder: str) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ["XDG_CACHE_HOME"] = os.environ["TMPDIR"] = folder
    tempfile.tempdir = folder
    sink = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(sink, descriptor)
    signal.alarm(LONGEST)
    try:
        os.write(writes, json.dumps(work()._asdict()).encode())
    finally:
        os._exit(0)


def interval(part: int, whole: int) -> str:
    """Return a fraction with its 95 % interval (Wilson 1927)."""
    if not whole:
        return "none"
    z, p = 1.96, part / whole
    middle = (p + z * z / (2 * whole)) / (1 + z * z / whole)
    half = z / (1 + z * z / whole) * math.sqrt(p * (1 - p) / whole + z * z / (4 * whole * whole))
    span = f"{100 * (middle - half):.0f} to {100 * (middle + half):.0f}"
    return f"{part} of {whole}: {100 * p:.1f} % ({span})"


def main() -> int:
    """Print the fate of every mutant as a line of JSON, and at the end the counts."""
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    wanted, run = clean()
    drawn = random.Random(seed)
    everything = mutants(run)
    # one of a function first, whatever its length, so that long functions do not fill the sample
    by_function = [list(own) for _, own in groupby(everything, lambda each: each[:2])]
    fates: Counter[str] = Counter()
    named = judged = 0
    while judged < count:
        mutant = drawn.choice(drawn.choice(by_function))
        told = Fate(str(mutant), described(mutant), "hang")
        found = apart(partial(fate, mutant, wanted), told)
        print(json.dumps(found._asdict(), ensure_ascii=False), flush=True)  # noqa: T201
        fates[found.fate] += 1
        named += found.named
        judged += found.fate in ("found", "missed")
    print(f"{len(everything)} mutants of {len(by_function)} functions; seed {seed}: {dict(fates)}")  # noqa: T201
    print(f"found {interval(fates['found'], judged)}")  # noqa: T201
    print(f"named {interval(named, fates['found'])}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
