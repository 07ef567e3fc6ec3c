"""Realistic slips: each module has some."""

from tests.gradcheck.own.bugs import activations, dense, images, outputs, training, whole
from tests.gradcheck.own.bugs.planting import BUGS, planted

__all__ = ["BUGS", "activations", "dense", "images", "outputs", "planted", "training", "whole"]
