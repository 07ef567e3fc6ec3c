"""The kill matrix of the zoo."""

from typing import Any

from dptrain.gradcheck.zoo.runner import Caught, Zoo
from dptrain.report.tables import print_table


def caught_line(caught: Caught) -> str:
    """Return a line about one bug."""
    return f"{caught.bug.name}: {_outcome(caught)} ({caught.seconds:.1f} s)"


def print_zoo(zoo: Zoo) -> None:
    """Print a row for every bug, and the sums."""
    rows = [
        (
            each.bug.name,
            each.bug.kind,
            "/".join(each.bug.exchange),
            _outcome(each),
            each.edge,
            each.named[0].kind if each.named else "",
        )
        for each in zoo.caught
    ]
    print_table("zoo", rows, ("bug", "kind", "exchange", "", "edge", "named first"))
    found, right = sum(c.killed for c in zoo.live), sum(c.right for c in zoo.live)
    print(  # noqa: T201
        f"{found} of {len(zoo.live)} bugs found ({zoo.killed:.1%}), "
        f"{right} named rightly ({zoo.named:.1%} of those found); "
        f"{len(zoo.caught) - len(zoo.live)} that change nothing: {zoo.false_alarms} false alarms; "
        f"{sum(c.seconds for c in zoo.caught):.0f} s"
    )


def zoo_data(zoo: Zoo) -> dict[str, Any]:
    """Return everything as plain data."""
    return {
        "good": zoo.good,
        "killed": zoo.killed,
        "named": zoo.named,
        "false_alarms": zoo.false_alarms,
        "bugs": [
            {
                "name": c.bug.name,
                "kind": c.bug.kind,
                "sentence": c.bug.sentence,
                "seen_in": c.bug.seen_in,
                "equivalent": c.bug.equivalent,
                "exchange": list(c.bug.exchange),
                "killed": c.killed,
                "edge": c.edge,
                "named": [{"kind": d.kind, "sentence": d.sentence} for d in c.named],
                "seconds": c.seconds,
            }
            for c in zoo.caught
        ],
    }


def _outcome(caught: Caught) -> str:
    if caught.bug.equivalent:
        return "false alarm" if caught.killed else "passes, as it should"
    if not caught.killed:
        return "missed"
    return "found" if caught.right else "found, named wrongly"
