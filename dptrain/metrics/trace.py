"""Timelines in the Trace Event Format of Chrome, which ui.perfetto.dev shows.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU: complete events
(``"ph": "X"``) with times in microseconds; a metadata event names each lane.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from dptrain.checkpoint.atomic import atomic_write

# lane, what was done, when it began and ended in seconds, the step
Row = tuple[int, str, float, float, int | None]


def write_trace(path: Path, lanes: Sequence[tuple[int, str]], spans: Iterable[Row]) -> None:
    """Write a timeline.

    Args:
        path: the file.
        lanes: number and name of every lane, from top to bottom.
        spans: what was done when, in any order.

    Raises:
        RunFolderError: the file cannot be written.
    """
    rows = sorted(spans, key=lambda row: row[2])
    zero = rows[0][2] if rows else 0.0
    place = {lane: i + 1 for i, (lane, _) in enumerate(lanes)}
    events = [
        json.dumps({"ph": "M", "pid": 1, "tid": place[lane], "name": kind, "args": args})
        for lane, name in lanes
        for kind, args in (
            ("thread_name", {"name": name}),
            ("thread_sort_index", {"sort_index": place[lane]}),
        )
    ]
    # by hand, since a long run has a million of them: names are plain words, numbers are finite
    events += [
        f'{{"ph":"X","pid":1,"tid":{place[lane]},"name":"{name}","ts":{1e6 * (began - zero):.3f},'
        f'"dur":{1e6 * (ended - began):.3f}'
        + ("}" if step is None else f',"args":{{"step":{step}}}}}')
        for lane, name, began, ended, step in rows
    ]
    atomic_write(path, ('{"traceEvents":[\n' + ",\n".join(events) + "\n]}\n").encode())
