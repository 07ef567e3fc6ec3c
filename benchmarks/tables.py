"""Results as Markdown."""

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.goals import GOALS, REFERENCES, Medians
from benchmarks.measuring import Results
from benchmarks.peers.jobs import JOBS


def medians_of(results: Results) -> dict[str, dict[str, float]]:
    """Return the medians of all rounds, by job and by program."""
    return {
        job: {name: statistics.median(values) for name, values in programs.items()}
        for job, programs in results.items()
    }


def goals_table(medians: Medians) -> str:
    """Return what was to be reached beside what was found."""
    rows = []
    for goal in GOALS:
        found = goal.found(medians)
        if found is None:
            judged = ("", "not measured")
        else:
            judged = (f"{found:.2f}", "met" if goal.met(found) else "**not met**")
        rows.append((goal.job, goal.program, str(goal), *judged))
    return markdown(("job", "program", "goal", "found", ""), rows)


def job_table(results: Mapping[str, Sequence[float]], medians: Mapping[str, float]) -> str:
    """Return a job's results; a ratio above 1 is slower than the reference."""
    head = ("program", "median", "fastest to slowest", *(f"to {r.name}" for r in REFERENCES))
    rows = []
    for name, values in results.items():
        span = f"{duration(min(values))} to {duration(max(values))}"
        references = [reference.seconds(medians) for reference in REFERENCES]
        ratios = [f"{medians[name] / other:.2f}" if other else "" for other in references]
        rows.append((name, duration(medians[name]), span, *ratios))
    return markdown(head, rows)


def title(name: str) -> str:
    """Return what a job is, in one line."""
    job = JOBS[name]
    kind = f" {job.kind}" if job.kind != "dense" else ""
    return f"{name}: {job.net} {job.activation}{kind}, batch {job.batch}, {job.optimizer}"


def duration(seconds: float) -> str:
    """Return seconds in the unit that reads best."""
    return f"{seconds * 1e3:.1f} ms" if seconds >= 0.01 else f"{seconds * 1e6:.0f} µs"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
