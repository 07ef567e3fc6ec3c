"""Classes without rows in a split, about which nothing can be learnt or measured."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dptrain.data.dataset import Dataset, Split

_MOST = 5  # classes in one sentence


def missing_classes(dataset: Dataset) -> Iterator[str]:
    """Yield a sentence for a data set with one class, and for classes without rows in a split."""
    if not dataset.classes:
        return
    names = dataset.class_names
    counts = {
        name: _counts(split, dataset.classes)
        for name, split in (
            ("training", dataset.train),
            ("validation", dataset.validation),
            ("test", dataset.test),
        )
        if len(split)
    }
    everywhere = _everywhere(dataset)
    trained = counts["training"]
    if np.count_nonzero(trained) == 1:
        yield (
            f"all training rows are of class {names[int(np.argmax(trained))]!r}, so that there is "
            "nothing to tell apart; look at the label"
        )
    yield from filter(None, [unused_classes(dataset)])
    if unlearnt := _listed(names, (everywhere > 0) & (trained == 0)):
        yield (
            f"no training row is of {unlearnt}, which cannot be learnt; give another --seed, or "
            "more training rows"
        )
    held_out = dataset.test.targets is dataset.train.targets  # rather than brought along
    for split, found in counts.items():
        if split != "training" and (untold := _listed(names, (trained > 0) & (found == 0))):
            remedy = f"; give another --seed, or a larger --{split}"
            yield (
                f"no {split} row is of {untold}, so that the {split} score tells nothing of it"
                f"{remedy * (held_out or split == 'validation')}"
            )


def unused_classes(dataset: Dataset) -> str:
    """Return a sentence about classes without any rows; an empty string if there are none."""
    nowhere = _listed(dataset.class_names, _everywhere(dataset) == 0) if dataset.classes else ""
    if not nowhere:
        return ""
    return (
        f"no row is of {nowhere}; classes are numbered from 0, and one without rows costs an output"
    )


def _everywhere(dataset: Dataset) -> NDArray[np.intp]:
    """Count the rows of each class, also of rows in no split, which train_rows leaves out."""
    count = np.bincount(dataset.train.targets, minlength=dataset.classes)
    return count + np.bincount(dataset.test.targets, minlength=dataset.classes)


def _counts(split: Split, classes: int) -> NDArray[np.intp]:
    targets = split.targets if split.index is None else split.targets[split.index]
    return np.bincount(targets, minlength=classes)


def _listed(names: Sequence[str], which: NDArray[np.bool_]) -> str:
    """Return the classes as words, such as ``class '1'``; an empty string where there are none."""
    found = [repr(name) for name, each in zip(names, which, strict=True) if each]
    if not found:
        return ""
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return f"class{'es' * (len(found) > 1)} {', '.join(found[:_MOST])}{more}"
