"""Slips in what a network makes of its layers' gradients."""

from typing import Any

import numpy as np

from tests.gradcheck.own.bugs.planting import bug, gradients
from tests.gradcheck.own.layers import Array


@bug
def sign_of_all(network: Any, random: np.random.Generator) -> bool:
    return gradients(network, lambda _, found, __: {key: -each for key, each in found.items()})


@bug
def sign_of_one(network: Any, random: np.random.Generator) -> bool:
    key = random.choice(list(network.params))
    return gradients(network, lambda _, found, __: found | {key: -found[key]})


@bug
def one_element_by_one_percent(network: Any, random: np.random.Generator) -> bool:
    key = random.choice(list(network.params))
    place = random.integers(network.params[key].size)

    def wrong(net: Any, found: dict[str, Array], _: int) -> dict[str, Array]:
        each = np.array(found[key])
        each.flat[place] *= 1.01
        return found | {key: each}

    return gradients(network, wrong)


@bug
def last_column_forgotten(network: Any, random: np.random.Generator) -> bool:
    key = random.choice([key for key in network.params if key[0] == "W"])

    def wrong(net: Any, found: dict[str, Array], _: int) -> dict[str, Array]:
        each = np.array(found[key])
        each[..., -1] = 0
        return found | {key: each}

    return gradients(network, wrong)


@bug
def rounded_to_float16(network: Any, random: np.random.Generator) -> bool:
    def wrong(net: Any, found: dict[str, Array], _: int) -> dict[str, Array]:
        with np.errstate(all="ignore"):
            return {key: each.astype(np.float16).astype(float) for key, each in found.items()}

    return gradients(network, wrong)


@bug
def added_up_over_calls(network: Any, random: np.random.Generator) -> bool:
    network.sums = {}

    def wrong(net: Any, found: dict[str, Array], _: int) -> dict[str, Array]:
        for key, each in found.items():
            net.sums[key] = net.sums.get(key, 0) + each
        return dict(net.sums)

    return gradients(network, wrong)


@bug
def two_exchanged(network: Any, random: np.random.Generator) -> bool:
    keys = list(network.params)
    pairs = [
        (a, b)
        for i, a in enumerate(keys)
        for b in keys[:i]
        if network.params[a].shape == network.params[b].shape
    ]
    if not pairs:
        return False
    a, b = pairs[random.integers(len(pairs))]
    return gradients(network, lambda _, found, __: found | {a: found[b], b: found[a]})
