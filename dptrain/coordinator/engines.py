"""The engine that carries out a job in the way that its execution says."""

from contextlib import ExitStack

from dptrain.coordinator.cluster import Cluster, Setting
from dptrain.coordinator.shared import SharedCluster
from dptrain.coordinator.star import StarCluster
from dptrain.exchange.engine import Engine, State
from dptrain.exchange.inline import InlineEngine


def inline_engine(setting: Setting, state: State) -> Engine:
    """Return an engine that trains in this process."""
    return InlineEngine(setting.job, state.parameters, state.slots, setting.timeline)


def cluster_of(stack: ExitStack, setting: Setting, state: State) -> Cluster:
    """Return a cluster whose workers have not joined yet; the stack closes it."""
    kind = SharedCluster if setting.execution.exchange == "shared" else StarCluster
    cluster: Cluster = kind(setting, state)
    stack.callback(cluster.close)
    return cluster
