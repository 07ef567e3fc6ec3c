"""Which bugs gradient checkers see: dptrain's own beside those of other libraries.

    pip install scipy autograd jax torch
    python -m benchmarks.gradcheck               # writes results.md and results.json

What is not installed is left out, and the table says so. All get the same functions in float64
and the same gradients, and decide by their own defaults.
"""

import argparse
import datetime
import importlib
import json
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

import dptrain
from benchmarks.gradcheck.bugs import BUGS
from benchmarks.gradcheck.checkers.checker import Checker
from benchmarks.gradcheck.problems import KINDS
from benchmarks.gradcheck.trials import Found, trials
from benchmarks.measuring import machine
from benchmarks.peers.cores import available, on_cores
from benchmarks.programs import installed
from benchmarks.tables import markdown

# What each module needs
MODULES = {
    "torch_gradcheck": "torch",
    "jax_check_grads": "jax",
    "scipy_check_grad": "scipy",
    "autograd_check_grads": "autograd",
    "own": "dptrain",
}


def checkers(only: Sequence[str]) -> tuple[list[Checker], list[str]]:
    """Return those whose libraries are installed, and sentences about the others."""
    found: list[Checker] = []
    left_out = []
    for module, library in MODULES.items():
        if library != "dptrain" and installed(library) is None:
            left_out.append(f"Left out: {module}, because {library} is not installed.")
            continue
        loaded = importlib.import_module(f"benchmarks.gradcheck.checkers.{module}")
        found += loaded.CHECKERS
    return [c for c in found if not only or any(text in c.name for text in only)], left_out


def summary(results: dict[str, Found]) -> str:
    """Return one row for each checker."""
    head = (
        "checker",
        "false alarms, %",
        "right at a kink: rejected, %",
        "wrong at a kink: rejected, %",
        "smallest relative error of one entry seen",
        "evaluations",
        "time",
    )
    rows = [
        (
            name,
            str(found.false_alarms),
            str(found.at_kink),
            str(found.beyond_kink),
            "none" if found.smallest is None else f"{found.smallest:.0e}",
            f"{found.evaluations:.0f}" if found.evaluations else "",
            f"{found.seconds * 1e3:.1f} ms",
        )
        for name, found in results.items()
    ]
    return markdown(head, rows)


def kills(results: dict[str, Found]) -> str:
    """Return one row for each bug, in percent."""
    rows = [(bug.name, *(str(f.kills[bug.name]) for f in results.values())) for bug in BUGS]
    return markdown(("bug", *results), rows)


def report(results: dict[str, Found], found: list[Checker], left_out: list[str], text: str) -> str:
    """Return the whole of results.md."""
    libraries = ("numpy", *(lib for lib in MODULES.values() if installed(lib)))
    versions = ", ".join(f"{lib} {installed(lib) or dptrain.__version__}" for lib in libraries)
    cpu = machine().partition(";")[0]
    some = next(iter(results.values()))
    trials_of_bug = next(iter(some.kills.values())).of
    return "\n\n".join(
        [
            "# Which bugs gradient checkers see",
            f"`{text}`, {datetime.datetime.now(datetime.UTC).date()}, {cpu}; Python "
            f"{platform.python_version()}, {versions}. One core, shared with others.",
            f"Functions: the losses of small networks ({', '.join(KINDS)}) with 53 to 103 weights, "
            "over 7 rows in 2 uneven shards, float64. All checkers get the same values and the "
            "same gradients: what dptrain's backpropagation computes, and that spoilt.",
            "dptrain's oracles are told more than the others: bounds of the rounding errors of "
            "value and gradient, central differences also the branches at kinks, and the complex "
            "step and the projections have the formulas.",
            *left_out,
            summary(results),
            f"False alarms are of {some.false_alarms.of} right gradients, those at a kink of "
            f"{some.at_kink.of}: there one bias makes a unit of one row exactly 0, and a right "
            "gradient lies between the slopes of both sides, a wrong one outside. An error counts "
            "as seen if at least half of the trials of its size and of every larger one show it. "
            "Evaluations of the function and time are medians for one right gradient; JAX's time "
            "is mostly that of tracing, and the complex step goes through the formulas in another "
            "way, which is not counted.",
            f"Wrong gradients that were rejected, in percent of {trials_of_bug} for each bug:",
            kills(results),
            "How each decides:",
            "\n".join(f"- {c.name}: {c.decides}" for c in found),
        ]
    )


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clean", type=int, default=100, help="right gradients of each function")
    parser.add_argument("--seeds", type=int, default=20, help="trials of each bug and function")
    parser.add_argument("--only", nargs="*", default=[], help="texts in the checkers' names")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.md")
    options = parser.parse_args()
    found, left_out = checkers(options.only)
    with on_cores(available()[:1]), threadpool_limits(limits=1):
        results = trials(found, options.clean, options.seeds)
    typed = shlex.join(["python", "-m", "benchmarks.gradcheck", *sys.argv[1:]])
    text = report(results, found, left_out, typed)
    options.out.write_text(text + "\n", encoding="utf-8")
    plain = {name: each.plain() for name, each in results.items()}
    options.out.with_suffix(".json").write_text(json.dumps(plain, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
