"""The tables that come with the package, against what their sources say of them."""

import numpy as np
import pytest

from dptrain.data.source import PACKAGED, TABLES, find_source, read_source


@pytest.mark.parametrize(
    ("name", "columns", "counts", "means"),
    [
        # Fisher 1936, table I and the means below it
        (
            "iris",
            ["setosa", "versicolor", "virginica"],
            [50, 50, 50],
            [5.843333, 3.057333, 3.758, 1.199333],
        ),
        # palmerpenguins: rows with measurements, and their means
        (
            "penguins",
            ["Adelie", "Chinstrap", "Gentoo"],
            [151, 68, 123],
            [43.921930, 17.151170, 200.915205, 4201.754386],
        ),
    ],
)
def test_small_tables(name: str, columns: list[str], counts: list[int], means: list[float]) -> None:
    data = read_source(name, None)
    assert list(data.class_names) == columns
    assert np.bincount(data.t_train).tolist() == counts
    np.testing.assert_allclose(data.x_train.mean(axis=0), means, atol=1e-6)


def test_breast_cancer() -> None:
    data = read_source("breast-cancer", None)
    assert data.class_names == ("benign", "malignant")
    assert np.bincount(data.t_train).tolist() == [357, 212]
    assert data.x_train.shape == (569, 30)
    # the repository's table of extremes: radius and area, the mean and the worst
    np.testing.assert_allclose(
        data.x_train[:, [0, 3, 20, 23]].min(axis=0), [6.981, 143.5, 7.93, 185.2]
    )
    np.testing.assert_allclose(
        data.x_train[:, [0, 3, 20, 23]].max(axis=0), [28.11, 2501, 36.04, 4254]
    )


def test_every_packaged_name_is_found_and_has_a_notice() -> None:
    for name in PACKAGED:
        source = find_source(name)
        assert source.name == name
        assert all(path.is_file() for path in source.files)
    notice = find_source("iris").files[0].with_name("NOTICE.md").read_text()
    assert all(f"## {name}.csv" in notice for name in TABLES)
