"""Warnings about a data set, and about how a network takes it."""

from collections.abc import Iterator

import numpy as np

from dptrain.experiment.job import Job
from dptrain.nn.network import Network

_CHANNELS = (1, 3)
_FAINT = 1e-3
_DARK = 64  # grey values of pictures go further


def data_doubts(job: Job) -> Iterator[str]:
    """Yield one sentence for each doubt."""
    if isinstance(job.network, Network):
        yield from _two_numbers(job)
        yield from _channels_first(job.network)
    yield from _lying(job)
    yield from _dark(job)
    yield from _faint_noise(job)


def _two_numbers(job: Job) -> Iterator[str]:
    """Look for floats that are two classes, most likely."""
    targets = job.dataset.train.targets
    if job.dataset.classes or job.experiment.task is not None or targets.shape[1:] != (1,):
        return
    values = np.unique(targets)
    if len(values) == 2 and np.isin(values, range(-1, 10)).all():
        yield (
            f"the targets are all {values[0]:g} or {values[1]:g} but floats, so numbers are "
            "predicted and no accuracy is told; where they are classes, give --task classification"
        )


def _channels_first(network: Network) -> Iterator[str]:
    """Look for images that a convolution takes as very low ones with many channels."""
    kinds = [each.layer.kind for each in network.row if each.layer.kind != "normalise"]
    shape = network.input_shape
    if kinds[0] != "conv2d" or len(shape) != 3:
        return
    height, width, channels = shape
    if height in _CHANNELS and min(width, channels) > max(_CHANNELS):
        yield (
            f"samples of shape {shape} are taken for images of {height}x{width} pixels with "
            f"{channels} channels; if the first axis counts the channels, move it behind the "
            "others: np.moveaxis(x, 1, -1)"
        )


def _dark(job: Job) -> Iterator[str]:
    """Look for uint8 that holds no grey values, but is divided by 255 as such."""
    scale = job.dataset.scale
    if scale.grey and scale.high < _DARK:
        yield (
            "inputs in uint8 are taken for grey values and divided by 255, but the largest is "
            f"{scale.high:g}; where they are other numbers, give another dtype, such as "
            "x.astype(float)"
        )


def _faint_noise(job: Job) -> Iterator[str]:
    """Look for noise meant for fractions of white, and given to grey values."""
    noise, scale = job.experiment.augment_noise, job.dataset.scale
    if noise and not scale.grey and noise < _FAINT * (scale.high - scale.low):
        yield (
            f"noise of deviation {noise:g} is next to nothing on inputs from {scale.low:g} to "
            f"{scale.high:g}; --augment-noise is in units of the inputs, and uint8 pictures range "
            "from 0 to 1"
        )


def _lying(job: Job) -> Iterator[str]:
    if job.dataset.name.lower().startswith("emnist") and not job.experiment.transpose:
        yield (
            "the files of EMNIST hold images with rows and columns exchanged, so that letters lie "
            "on their side; give --transpose, that pictures to predict may stand upright"
        )
