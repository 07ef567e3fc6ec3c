"""Classes that a split has no rows of, so that nothing can be learnt or said of them."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dptrain.data.dataset import Dataset, Split

_MOST = 5  # classes in one sentence


def missing_classes(dataset: Dataset) -> Iterator[str]:
    """Yield a sentence for a data set of one class, and for classes that a split has no rows of."""
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
    # also of rows that are in no split, which train_rows leaves out
    everywhere = np.bincount(dataset.train.targets, minlength=dataset.classes)
    everywhere = everywhere + np.bincount(dataset.test.targets, minlength=dataset.classes)
    trained = counts["training"]
    if np.count_nonzero(trained) == 1:
        yield (
            f"all training rows are of class {names[int(np.argmax(trained))]!r}, so that there is "
            "nothing to tell apart; look at the label"
        )
    if nowhere := _listed(names, everywhere == 0):
        yield (
            f"no row is of {nowhere}; classes are numbered from 0, and one without rows costs an "
            "output"
        )
    if unlearnt := _listed(names, (everywhere > 0) & (trained == 0)):
        yield (
            f"no training row is of {unlearnt}, which cannot be learnt; give another --seed, or "
            "more training rows"
        )
    for split, found in counts.items():
        if split != "training" and (untold := _listed(names, (trained > 0) & (found == 0))):
            yield (
                f"no {split} row is of {untold}, so that the {split} score tells nothing of it; "
                f"give another --seed, or a larger --{split}"
            )


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
