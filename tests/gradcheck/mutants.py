"""Mutants of the update: its own source with one piece of text exchanged, as a programmer errs."""

import inspect
from types import ModuleType
from typing import Any

import msgspec
from msgspec.structs import astuple

from dptrain.experiment.job import Job
from dptrain.optim import links, rules, schedules, updater


def mutated(module: ModuleType, old: str, new: str) -> dict[str, Any]:
    """Return the names of a module whose source has something exchanged."""
    source = inspect.getsource(module)
    assert old in source, f"{old!r} is not in {module.__name__}"
    names: dict[str, Any] = {"__name__": module.__name__}
    exec(compile(source.replace(old, new, 1), module.__name__, "exec"), names)  # noqa: S102 - our own
    return names


def infect(job: Job, where: str, old: str, new: str) -> None:
    """Give a job's updater one mutant: of links, rules, schedules or of the updater itself."""
    found = job.updater
    modules = {"links": links, "rules": rules, "schedules": schedules, "updater": updater}
    names = mutated(modules[where], old, new)
    if where == "updater":
        found.__class__ = names["Updater"]
        return
    if where == "links":
        right = found.links

        def infected(place: int) -> list[Any]:
            *chain, last = right(place)
            chain = [names[type(each).__name__](*astuple(each)) for each in chain]
            return [*chain, names["Move"](last.rate) if isinstance(last, links.Move) else last]

        setattr(found, "links", infected)  # noqa: B010 - a method
        return
    part = "rule" if where == "rules" else "schedule"
    right = getattr(found, part)
    fields = msgspec.structs.asdict(right)
    setattr(found, part, names[type(right).__name__](**fields))
