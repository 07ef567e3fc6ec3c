"""Whatever there is stands wherever it must: what has been added and forgotten is named here.

CONTRIBUTING says in which files something new is written; these tests name those that lack it.
Others that go over all there is take it from the same lists: activations from `tests.nn.reference`,
losses from `tests.nn.losses`, layers from the networks of `tests.exchange.test_gradients`.
"""

import re
from collections.abc import Collection, Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

import dptrain
from dptrain.cli.scaling import scaling
from dptrain.cli.verbs import VERBS
from dptrain.coordinator.engines import ENGINES
from dptrain.experiment.exchanges import EXCHANGES
from dptrain.experiment.models import ACTIVATIONS, NORMS, SUITABLE_INIT
from dptrain.experiment.schema import LOSS_FIELDS, RULE_FIELDS
from dptrain.experiment.setting_types import (
    ActivationName,
    InitName,
    LossName,
    NormName,
    OptimizerName,
    ScheduleName,
)
from dptrain.experiment.validate import choices_of
from dptrain.gradcheck import oracles, zoo
from dptrain.gradcheck.reference.elementwise import SMOOTH
from dptrain.gradcheck.reference.layers import forward
from dptrain.gradcheck.reference.losses import row_losses
from dptrain.gradcheck.updates.optimizers import BOOK
from dptrain.gradcheck.updates.rates import learning_rate
from dptrain.gradcheck.zoo.catalogue import BUGS
from dptrain.nn.composite import AnyLayer, Chain
from dptrain.nn.layer import Activation, Layer
from dptrain.nn.loss import Loss
from dptrain.nn.losses import LOSSES
from dptrain.nn.network import Network
from dptrain.nn.pruning import prune
from dptrain.nn.quantisation import quantise_weights
from dptrain.optim.links import DecoupledDecay
from dptrain.optim.rules import RULES
from dptrain.optim.schedules import AnySchedule
from dptrain.worker.shell import RANKS
from tests.exchange.build import Data
from tests.exchange.test_gradients import NETWORKS
from tests.gradcheck.build import data as data
from tests.gradcheck.build import experiment
from tests.nn import reference
from tests.nn.losses import CASES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LAYERS: dict[str, type[Layer]] = {str(k.__struct_config__.tag): k for k in get_args(AnyLayer)}
SCHEDULES = {str(k.__struct_config__.tag): k for k in get_args(AnySchedule)}


def lacks(there: Collection[str], wanted: Collection[str]) -> list[str]:
    """Return what is not there, to be named by the test that fails."""
    return sorted(set(wanted) - set(there))


def told(text: str) -> set[str]:
    """Return the words between backticks."""
    return set(re.findall(r"`([^`]+)`", text))


def row(what: str) -> str:
    """Return a row of the README's table of choices."""
    (found,) = re.findall(rf"^\| {what} \|(.*)\|$", README, re.MULTILINE)
    return str(found)


@pytest.mark.parametrize(
    ("names", "there"),
    [
        (ActivationName, ACTIVATIONS),
        (NormName, NORMS),
        (LossName, LOSSES),
        (OptimizerName, RULES),
        (ScheduleName, SCHEDULES),
    ],
    ids=["activation", "norm", "loss", "optimizer", "schedule"],
)
def test_what_users_may_name_is_what_there_is(
    names: Any, there: Collection[str], request: pytest.FixtureRequest
) -> None:
    assert not lacks(get_args(names), there), "the schema does not name it"
    assert not lacks(there, get_args(names)), "the schema names what there is not"
    what = request.node.callspec.id
    assert not lacks(told(row(what)), there), f"the README's row of {what} does not tell it"


@pytest.mark.parametrize("name", EXCHANGES)
def test_every_exchange(name: str) -> None:
    assert name in ENGINES, f"the coordinator has no engine for {name}"
    assert (name in RANKS) is EXCHANGES[name].workers, f"the worker's side of {name}"
    assert name in told(row("exchange")), f"the README does not tell {name}"
    measured = choices_of(get_type_hints(scaling)["exchange"])
    assert (name in measured) is EXCHANGES[name].workers, f"dptrain scaling and {name}"


def kinds_in(description: list[dict[str, Any]]) -> Iterator[str]:
    for each in description:
        yield each["layer"]
        for held in ("layers", "shortcut"):
            yield from kinds_in(each.get(held, []))


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "normalise"])
def test_every_layer(name: str, data: Data) -> None:
    kind = LAYERS[name]
    assert kind.__name__ in dptrain.__all__, f"dptrain does not export {kind.__name__}"
    if issubclass(kind, Activation):
        assert kind in map(type, reference.ACTIVATIONS), f"tests.nn.reference has no {name}"
        assert SUITABLE_INIT[name] in get_args(InitName)
    else:
        (text,) = re.findall(r"^\*\*Layers\*\*: .*?\n\n", README, re.MULTILINE | re.DOTALL)
        assert kind.__name__ in told(text), f"the README does not tell {kind.__name__}"
    if kind is not Chain:  # whose own layers stand in its place
        general = {forward.dispatch(Layer), forward.dispatch(Activation)}
        known = kind in SMOOTH or forward.dispatch(kind) not in general
        assert known, f"the checker's reference does not know {name}"
    holding = [each for each in NETWORKS.values() if name in kinds_in(each)]
    assert holding, f"no network of tests.exchange.test_gradients has {name}"
    assert_smaller(data.job(experiment(layers=holding[0])).network, name)


def assert_smaller(network: Any, name: str) -> None:
    """Compression changes weights, which the checker finds by their name, and nothing else."""
    assert isinstance(network, Network)
    w = np.random.default_rng(0).uniform(1, 2, network.size)
    weights = {t.name for t in network.all_tensors() if t.name.endswith(".W")}
    _, quantised = quantise_weights(network, w)
    assert set(quantised) == weights, f"tensors of a network with {name} that are quantised"
    zeros = network.views(prune(network, w, 0.99))
    pruned = {each for each, values in zeros.items() if not values.all()}
    assert pruned <= weights, f"tensors of a network with {name} that are pruned"


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss(name: str) -> None:
    kind = LOSSES[name]
    known = row_losses.dispatch(kind) is not row_losses.dispatch(Loss)
    assert known, f"the checker's reference does not know {name}"
    assert kind in {type(case.loss) for case in CASES.values()}, f"tests.nn.losses has no {name}"
    missing = lacks(LOSS_FIELDS, kind.__struct_fields__)
    assert not missing, f"settings of {name} that are not in LOSS_FIELDS: {missing}"


@pytest.mark.parametrize("name", RULES)
def test_every_optimizer(name: str, data: Data) -> None:
    rule, job = RULES[name](), data.job(experiment(optimizer=name))
    assert name in BOOK, f"the checker's book does not know {name}"
    book = BOOK[name](job.experiment)
    assert tuple(book.scales) == rule.slots, f"the state of {name} in the checker's book"
    decoupled = isinstance(rule.weight_decay(0.1), DecoupledDecay)
    assert book.decoupled is decoupled, f"weight decay of {name} in the checker's book"
    missing = lacks(RULE_FIELDS, rule.__struct_fields__)
    assert not missing, f"settings of {name} that are not in RULE_FIELDS: {missing}"


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule(name: str, data: Data) -> None:
    job = data.job(experiment(schedule=name))
    assert type(job.updater.schedule) is SCHEDULES[name], f"a job does not follow {name}"
    assert learning_rate(job, 3).value == pytest.approx(job.updater.schedule(3)), name


def test_every_verb_has_a_place() -> None:
    returned = {}
    for path in (ROOT / "dptrain" / "cli").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for kind in re.findall(
            rf"^def {path.stem}\(.*?\) -> (\w+)", text, re.DOTALL | re.MULTILINE
        ):
            returned[path.stem] = kind
    verbs = [name for name, kind in returned.items() if kind == "int"]
    assert not lacks(VERBS, verbs), "the overview does not tell it"
    assert not lacks(verbs, VERBS), "dptrain.cli has no such verb"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_told(verb: str) -> None:
    assert re.search(rf"^    dptrain {verb}\b", README, re.MULTILINE), verb


@pytest.mark.parametrize("name", [each.name for each in iter_modules(oracles.__path__)])
def test_every_oracle_is_asked(name: str) -> None:
    folder = ROOT / "dptrain" / "gradcheck"
    asking = [
        path.name
        for path in folder.rglob("*.py")
        if f"gradcheck.oracles.{name} import" in path.read_text(encoding="utf-8")
    ]
    assert asking, f"nobody asks the oracle {name}"


def test_every_bug_is_in_the_zoo() -> None:
    for each in iter_modules(zoo.__path__):
        own = getattr(import_module(f"{zoo.__name__}.{each.name}"), "BUGS", ())
        if own is not BUGS:
            missing = lacks(BUGS, [bug.name for bug in own])
            assert not missing, f"the catalogue does not take the bugs of {each.name}: {missing}"
    real = [bug for bug in BUGS.values() if not bug.equivalent]
    assert f"{len(real)} deliberate bugs loose" in README
    assert f" {len(BUGS) - len(real)} more that change nothing" in README.replace("\n", " ")
