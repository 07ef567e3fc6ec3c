"""A prepared data set as the ranks see it: memory-mapped arrays and three splits of their rows."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dptrain.arithmetic.randomness import Purpose, generator
from dptrain.data.csv_header import TableForm
from dptrain.data.folder import open_folder
from dptrain.data.inputs import scale_grey
from dptrain.data.rescaling import Change, rescaled
from dptrain.data.rounding import Rounded
from dptrain.data.row_weights import relative_weights
from dptrain.data.scale import Scale
from dptrain.data.target_scale import TargetScale
from dptrain.errors import UsageError

# They enter the random streams that choose the rows: never renumber.
_SPLIT_KEYS = {"test": 0, "validation": 1, "train": 2}


@dataclass(frozen=True, eq=False)
class Split:
    """Some rows of a data set, possibly none.

    ``inputs``: (n, *sample_shape), memory-mapped: numbers of the run's dtype, or uint8 grey values
    that are divided by 255 on the way out. ``targets``: class labels (n,) int64, or regression
    targets (n, k). ``index``: which of the n rows belong to the split, ascending; None for all of
    them. ``change``: what is done to the inputs as they are stored, in place of the division of
    grey values, for a network that was trained on another scale. ``target_scale``: what targets to
    predict are standardised by on the way out. ``weights``: (n,) of the run's dtype, of mean 1 over
    the split; None where every row counts the same. Only the rows that are trained on have them.
    """

    inputs: NDArray[Any]
    targets: NDArray[Any]
    index: NDArray[np.intp] | None = None
    change: Change | None = None
    weights: NDArray[Any] | None = None
    target_scale: TargetScale | None = None

    def __len__(self) -> int:
        return len(self.inputs) if self.index is None else len(self.index)

    @property
    def grey(self) -> bool:
        """Whether the inputs are grey values."""
        return self.inputs.dtype == np.uint8

    def gather(
        self,
        order: NDArray[np.intp],
        x_out: NDArray[Any],
        t_out: NDArray[Any],
        grey: NDArray[np.uint8] | None = None,
    ) -> None:
        """Copy the split's rows number ``order``, shape (m,), into ``x_out`` and ``t_out``.

        Both are C-contiguous and have m rows; ``x_out`` has the run's dtype, ``t_out`` that of the
        targets, or any where they are standardised. The numbers lie in [0, len(self)); that is not
        checked. Nothing is allocated where ``index`` is None, targets are not standardised, and
        grey values have a place on the way: ``grey``, shaped as ``x_out``.
        """
        rows = order if self.index is None else self.index[order]
        # mode="raise" would gather into a buffer first, to leave x_out alone on an error.
        # The methods, since the functions around them cost 2 µs more a call.
        if self.change is not None:
            x_out[...] = rescaled(self.inputs[rows], self.change, x_out.dtype)
        elif self.inputs.dtype == np.uint8:
            grey = np.empty(x_out.shape, np.uint8) if grey is None else grey
            self.inputs.take(rows, 0, grey, "clip")
            scale_grey(grey, x_out)
        else:
            self.inputs.take(rows, 0, x_out, "clip")
        if self.target_scale is not None:
            t_out[...] = self.target_scale.standardised(self.targets[rows])
        else:
            self.targets.take(rows, 0, t_out, "clip")

    def target_dtype(self, dtype: DTypeLike) -> np.dtype[Any]:
        """Return that of the targets in a run of a dtype, which they may be stored in or not."""
        return self.targets.dtype if self.target_scale is None else np.dtype(dtype)

    def all_targets(self) -> NDArray[Any]:
        """Return the targets of all rows as they are trained on, standardised ones in float64."""
        found = self.targets if self.index is None else self.targets[self.index]
        return found if self.target_scale is None else self.target_scale.standardised(found)

    def gather_weights(self, order: NDArray[np.intp], out: NDArray[Any]) -> None:
        """Copy the weights of rows number ``order``, shape (m,), into ``out``; as `gather`."""
        assert self.weights is not None
        rows = order if self.index is None else self.index[order]
        self.weights.take(rows, 0, out, "clip")

    def take(self, order: NDArray[np.intp], dtype: DTypeLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the split's rows number ``order`` as new arrays: inputs in ``dtype``, targets."""
        x = np.empty((len(order), *self.inputs.shape[1:]), dtype)
        t = np.empty((len(order), *self.targets.shape[1:]), self.target_dtype(dtype))
        self.gather(order, x, t)
        return x, t


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set with its splits.

    ``digest`` (hex) names the contents of the source. ``classes`` is 0 for regression.
    ``class_names`` has one name per class. ``target_shape`` is () for class labels, (k,) for
    regression. ``rounded`` tells of inputs and targets that have lost digits, ``scale`` of what the
    inputs were before; ``offsets``, perhaps none, have been taken off their numbers.
    ``validation`` and ``test`` may be empty. ``form`` tells how a CSV was understood, ``notes`` are
    sentences for the user.
    """

    name: str
    digest: str
    classes: int
    class_names: tuple[str, ...]
    sample_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rounded: tuple[Rounded, ...]
    scale: Scale
    train: Split
    validation: Split
    test: Split
    form: TableForm | None = None
    notes: tuple[str, ...] = ()
    offsets: tuple[float, ...] = ()

    def shaped(self, shape: tuple[int, ...]) -> Self:
        """Return the data set with samples of another shape of the same size."""
        if shape == self.sample_shape:
            return self
        splits = {
            name: replace(each, inputs=each.inputs.reshape(len(each.inputs), *shape))
            for name in ("train", "validation", "test")
            for each in [getattr(self, name)]
        }
        return replace(self, sample_shape=shape, **splits)

    def changed(self, change: Change) -> Self:
        """Return the data set with inputs in the scale of a network trained on another."""
        if change == ("divide" if self.train.grey else "none"):
            return self
        return self._with(change=change)

    def standardised(self, scale: TargetScale | None) -> Self:
        """Return the data set with targets that are standardised, unless there is no scale."""
        return self if scale is None else self._with(target_scale=scale)

    def _with(self, **of_splits: Any) -> Self:
        return replace(
            self,
            train=replace(self.train, **of_splits),
            validation=replace(self.validation, **of_splits),
            test=replace(self.test, **of_splits),
        )


def open_dataset(
    folder: Path, *, validation: float, test: float, seed: int, train_rows: int | None = None
) -> Dataset:
    """Open a prepared data set and split its rows.

    Where it brings no test part, the fraction ``test`` of its rows is held out, chosen by
    ``seed``; of the rows that remain for training, the fraction ``validation``. A fraction above 0
    takes at least one row. Of what then remains, ``train_rows`` rows are trained on, or all.

    Raises DataError for a damaged folder, and UsageError for fractions outside [0, 1) or that
    leave nothing to train on, and for more ``train_rows`` than there are.
    """
    for name, fraction in (("validation", validation), ("test", test)):
        if not 0 <= fraction < 1:
            raise UsageError(f"{name}={fraction} must be a fraction of the rows, from 0 to below 1")
    meta, arrays = open_folder(folder)
    inputs, targets = arrays["x_train"], arrays["t_train"]
    rows = np.arange(len(inputs), dtype=np.intp)
    if "x_test" in arrays:
        test_split = Split(arrays["x_test"], arrays["t_test"])
    else:
        rows, held_out = _hold_out("test", test, rows, seed)
        test_split = Split(inputs, targets, held_out)
    rows, held_out = _hold_out("validation", validation, rows, seed)
    if train_rows is not None:
        rows = _some(train_rows, rows, seed)
    index = None if len(rows) == len(inputs) else rows
    weights = None
    if "w_train" in arrays:
        weights = relative_weights(arrays["w_train"], index, np.dtype(meta.dtype))
    return Dataset(
        name=meta.name,
        digest=meta.digest,
        classes=meta.classes,
        class_names=meta.class_names,
        sample_shape=inputs.shape[1:],
        target_shape=targets.shape[1:],
        dtype=np.dtype(meta.dtype),
        rounded=meta.rounded,
        scale=meta.scale,
        train=Split(inputs, targets, index, weights=weights),
        validation=Split(inputs, targets, held_out),
        test=test_split,
        form=meta.form,
        notes=meta.notes,
        offsets=meta.offsets,
    )


def _hold_out(
    name: str, fraction: float, rows: NDArray[np.intp], seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows that stay and those held out for ``name``, both ascending."""
    if fraction == 0:
        return rows, rows[:0]
    count = max(1, round(fraction * len(rows)))
    if count >= len(rows):
        raise UsageError(
            f"{name}={fraction} of {len(rows)} rows leaves none to train on; "
            "give a smaller fraction or 0"
        )
    order = generator(seed, Purpose.SPLIT, _SPLIT_KEYS[name]).permutation(len(rows))
    return np.sort(rows[order[count:]]), np.sort(rows[order[:count]])


def _some(count: int, rows: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """Return ``count`` of the rows, ascending; all rows of a smaller count are among them."""
    if count > len(rows):
        raise UsageError(
            f"train_rows={count} is more than the {len(rows)} training rows that there are; "
            f"give --train-rows {len(rows)} or less"
        )
    order = generator(seed, Purpose.SPLIT, _SPLIT_KEYS["train"]).permutation(len(rows))
    return np.sort(rows[order[:count]])


def epoch_order(seed: int, epoch: int, rows: int) -> NDArray[np.intp]:
    """Return the permutation, shape ``(rows,)``, in which epoch ``epoch`` visits the rows."""
    return generator(seed, Purpose.SHUFFLE, epoch).permutation(rows).astype(np.intp, copy=False)
