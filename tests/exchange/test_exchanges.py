"""What exists of every exchange: this names what one that is added lacks."""

from dptrain.coordinator.engines import ENGINES
from dptrain.experiment.exchanges import EXCHANGES
from dptrain.worker.shell import RANKS


def test_every_exchange_has_an_engine_and_a_rank() -> None:
    assert set(ENGINES) == set(EXCHANGES)
    assert set(RANKS) == {name for name, each in EXCHANGES.items() if each.workers}
