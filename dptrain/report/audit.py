"""What verifying a run and bisecting two have found, for people."""

from dptrain.arithmetic.platform import Arithmetic
from dptrain.audit.bisect import Bisection
from dptrain.audit.checks import short
from dptrain.audit.lockstep import Divergence, Stray
from dptrain.audit.records import RunComparison
from dptrain.audit.verify import Verification, Verified
from dptrain.report.tables import print_table

PHASES = {
    "rows": "choice of rows",
    "data": "rows as the data have them",
    "inputs": "inputs after augmentation",
    "outputs": "outputs of a layer",
    "loss": "loss",
    "shard gradient": "gradient of a shard",
    "gradient": "sum of the gradients over the shards",
    "update": "update",
}
HEADER = ("window", "steps", "compared", "recorded", "found", "same")
COLOURS = {"yes": "green", "NO": "bold red"}
ELSEWHERE = (
    "The run did not record how it was computed: another kind of processor, or another NumPy, may "
    "differ in the last bits; dptrain doctor tells both."
)


def window_line(done: Verified) -> str:
    """Return what came of a window, on one line."""
    result = "the same" if done.same else "DIFFERENT" if done.differs else "cannot tell"
    return f"{done.window.name}, {_steps(done)}: {result}"


def print_verification(found: Verification) -> None:
    """Print a table of the windows, and what differs first."""
    title = f"{found.run}, {len(found.windows)} of {found.there} windows"
    if found.seed is not None:
        title += f", chosen by seed {found.seed}"
    print_table(title, [_row(each) for each in found.windows], HEADER, COLOURS)
    for problem in found.damaged.values():
        _say(f"a checkpoint cannot be read: {problem}")
    if found.first is not None:
        _say(f"{found.first}." + ("" if found.recorded else f"\n{ELSEWHERE}"))
    if found.foreign is not None:
        _say(_cannot_tell(found.foreign, found.here))
    elif found.same:
        _say("everything is the same, to the last bit")


def _row(done: Verified) -> tuple[str, ...]:
    decisive = done.decisive
    return (
        done.window.name,
        _steps(done),
        str(len(done.checks)),
        short(decisive.recorded) if decisive else "",
        short(decisive.found) if decisive else "",
        "yes" if done.same else "NO" if done.differs else "?",
    )


def _cannot_tell(made: Arithmetic, here: Arithmetic | None) -> str:
    return (
        f"cannot tell whether the steps are right that were computed elsewhere, with {made}; here "
        f"it is {here}, and the last bits may differ: look at them on a machine like that"
    )


def _steps(done: Verified) -> str:
    return f"{done.window.begin} to {done.window.end}"


def print_bisection(found: Bisection) -> None:
    """Print where two runs part."""
    if found.settings:
        rows = [(s.name, _value(s.one), _value(s.other)) for s in found.settings]
        print_table("settings that differ", rows, ("setting", *_names(found)))
    for line in _lines(found):
        _say(line)


def _lines(found: Bisection) -> list[str]:
    lines = [f"a checkpoint cannot be read: {each}" for each in found.records.damaged]
    lines.append(_recorded(found.records))
    if found.note:
        return [*lines, f"nothing was re-executed: {found.note}"]
    if found.end:
        lines.append(f"re-executed: both from step {found.begin} to {found.end}")
    if found.finding is not None:
        lines.append(_finding(found.finding))
    elif found.end:
        lines.append("the re-executions agree to the last bit")
    lines += [_stray(found, each) for each in found.strays]
    for stray, made in found.foreign:
        run = found.runs[stray.run]
        lines.append(f"{run}: {stray.check}; {_cannot_tell(made, found.here)}")
    if found.same:
        until = found.end or found.records.until
        lines.append(f"the two runs are the same, up to step {until}")
    return lines


def _recorded(records: RunComparison) -> str:
    one, count = records.first, f"{records.compared} records and checkpoints"
    if one is None:
        return f"recorded: the same in all that both tell, {count}"
    tensors = f", in {', '.join(one.tensors)}" if one.tensors else ""
    after = f"the same up to step {one.since}" if one.since else "nothing before is known"
    verb = "differ" if one.what.startswith("the tensors") else "differs"
    step = "" if str(one.step) in one.what.split() else f", step {one.step}"
    return f"recorded: {one.what} {verb}{step}{tensors}; {after}"


def _finding(found: Divergence) -> str:
    shard = "" if found.shard is None else f", shard {found.shard}"
    how = str(found.difference) if found.difference else found.problem
    what = f"{found.where}{shard}: {how}"
    if found.phase == "network":
        return f"the networks differ: {what}"
    if found.phase == "start":
        return f"they part before their first step, in the weights they begin with: {what}"
    step = found.step + 1  # as records count: step 1 is the first
    return f"they part in step {step}, in the {PHASES[found.phase]}: {what}"


def _stray(found: Bisection, stray: Stray) -> str:
    return (
        f"{found.runs[stray.run]} did not compute what its experiment says, between the steps "
        f"{stray.since} and {stray.check.step}: {stray.check}"
    )


def _names(found: Bisection) -> tuple[str, str]:
    one, other = (run.name for run in found.runs)
    return (one, other) if one != other else (str(found.runs[0]), str(found.runs[1]))


def _value(value: object) -> str:
    return "" if value is None else short(str(value))


def _say(text: str) -> None:
    print(text)  # noqa: T201 - the result
