"""Words that other libraries use are told by their name here; callbacks and balanced weights."""

from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

import dptrain
from dptrain import Dense, Experiment, Network
from dptrain.cli.__main__ import main
from dptrain.cli.variables import misspelt
from dptrain.errors import UsageError
from dptrain.experiment.execution import Execution
from dptrain.experiment.files import read_toml
from dptrain.experiment.models import sizes
from dptrain.experiment.synonyms import _INSTEAD, _SYNONYMS, _VALUES, meant
from dptrain.experiment.validate import build, choices_of
from dptrain.metrics.records import EpochRecord
from dptrain.tune.settings import checked
from dptrain.tune.space import parse_parameter
from tests.sessions import run, write_dataset

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((200, 4))
T = (X[:, 0] > 0.8).astype(int)
NETWORK = Network(4, [Dense(2)])


def fit(**settings: Any) -> dptrain.Result:
    given: Any = {"workers": 1, "progress": False} | settings
    return dptrain.fit(NETWORK, (X, T), **given)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("learning_rate", "it is called lr here"),
        ("validation_split", "it is called validation here"),
        ("batch", "it is called batch_size here"),
        ("epoch", "it is called epochs here"),
        ("n_jobs", "it is called workers here"),
        ("random_state", "it is called seed here"),
        ("shuffle", "every epoch draws the rows in a new order"),
        ("callbacks", "on_epoch=FUNCTION"),
        ("sample_weights", "dptrain.fit takes sample_weight, one number for each row"),
        ("metrics", "metrics.jsonl"),
        ("metric", "metrics.jsonl"),
    ],
)
def test_other_words(word: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        fit(**{word: 0.1})
    assert "known keys" not in str(refused.value)
    with pytest.raises(UsageError, match=said):
        build(Experiment, {word: 0.1}, "some.toml [experiment]")
    with pytest.raises(UsageError, match=said):
        checked(parse_parameter(f"{word}=1,2"), {})
    flag = f"--{word.replace('_', '-')}"
    assert main(["train", flag, "0.1"]) == 2
    told = said.replace("called ", "called --").replace("batch_size", "batch-size")
    assert told in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("loss", "mse", "did you mean 'mean-squared-error'?"),
        ("loss", "Categorical_CrossEntropy", "did you mean 'softmax-cross-entropy'?"),
        ("loss", "CrossEntropyLoss", "did you mean 'softmax-cross-entropy'?"),
        ("optimizer", "Adam", "did you mean 'adam'?"),
        ("optimizer", "SGD", "did you mean 'sgd'?"),
        ("activation", "softmax", "softmax is part of the loss"),
        ("activation", "leaky_relu", "did you mean 'leaky-relu'?"),
        ("init", "kaiming", "did you mean 'he'?"),
        ("norm", "batchnorm", "did you mean 'batch'?"),
        ("dtype", "double", "did you mean 'float64'?"),
        ("schedule", "CosineAnnealingLR", "did you mean 'cosine'?"),
    ],
)
def test_other_values(
    setting: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as refused:
        build(Experiment, {setting: value}, "some.toml")
    assert f"{setting}={value!r} is unknown; {said}" in str(refused.value)
    assert main(["train", f"--{setting}", value]) == 2
    told = capsys.readouterr().err
    assert f"--{setting} {value!r} is unknown; {said}" in told
    assert "choose from: " in told


def test_every_value_that_is_meant_is_one() -> None:
    hints = get_type_hints(Experiment, include_extras=True)
    for setting, words in _VALUES.items():
        assert set(words.values()) <= set(choices_of(hints[setting]))
        assert not set(words) & set(choices_of(hints[setting]))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train --verbose 1", "2>/dev/null hides it"),
        ("train --validation-data x", "hold rows out with --validation 0.1"),
        ("train --layers 50", "it is called --model here"),
        ("evaluate run --data x", "it is called --dataset here"),
        ("evaluate run --epoch 5", "it is called --checkpoint here"),
        ("inspect run --batch 5", "unknown option --batch; see "),  # has no --batch-size
        ("tune --n-trials 5", "it is called --trials here"),
        ("predict run --image x.png", "predict needs --input, not --image: "),
        ("gradcheck --eps 1e-4", "follow from the rounding errors"),
        ("train --steps 1.5", "--steps '1.5': needs a whole number"),
        ("train --lr 1,5", "--lr '1,5' is not a number"),
        ("resume run", "there is no verb 'resume'; give "),
        ("Trian", "did you mean 'train'?"),
        ("predict run /", "predict needs --input before /: "),
        ("evaluate --run run", "it is given without a flag: "),
        ("train --e 5", "unknown option --e; see "),
        ("tune --param lr=log:1:2", "a range begins with one of uniform, loguniform"),
    ],
)
def test_a_hint_names_what_the_verb_has(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    assert said in capsys.readouterr().err.replace("\n", " ")


def test_variables_that_set_nothing_are_told() -> None:
    given = dict.fromkeys(("LR", "CACHE", "LEARNING_RATE", "EPOCH", "BATCHSIZE", "MINE"), "1")
    found = list(misspelt({f"DPTRAIN_{name}": value for name, value in given.items()}))
    assert found == [
        "the environment variable DPTRAIN_BATCHSIZE sets nothing; did you mean 'batch_size'?",
        "the environment variable DPTRAIN_EPOCH sets nothing; it is called --epochs here",
        "the environment variable DPTRAIN_LEARNING_RATE sets nothing; it is called --lr here",
    ]
    assert not list(misspelt({"EPOCH": "1", "DPTRAIN_OWN_CHECKS": "2", "DPTRAIN_WORKERS": "3"}))


def test_in_python_no_flag_is_named() -> None:
    for word in ("validation_data", "betas", "sample_weights"):
        with pytest.raises(UsageError) as refused:
            fit(**{word: 1})
        assert "--" not in str(refused.value)


def test_a_module_of_another_library_is_called_one() -> None:
    class Module:
        def parameters(self) -> list[float]:
            return []

        def __call__(self, x: object) -> object:
            return x

    with pytest.raises(UsageError, match="Module looks like a module of PyTorch"):
        dptrain.fit(Module(), (X, T), progress=False)
    with pytest.raises(UsageError, match="is a function; give its initial parameters"):
        dptrain.fit(Module().parameters, (X, T), progress=False)


def test_the_model_that_fits_the_samples_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--dataset", "iris"]) == 2
    assert "give one with 4, such as --model mlp:4-100-10" in capsys.readouterr().err
    with pytest.raises(UsageError, match="all targets are of class 0"):
        dptrain.fit(NETWORK, (X, 0 * T), progress=False)


def test_sizes_in_another_form_are_told_in_the_right_one() -> None:
    for model in ("784-50-10", "mlp:784,50,10", "[784, 50, 10]"):
        with pytest.raises(UsageError, match="did you mean 'mlp:784-50-10'"):
            sizes(model)


def test_no_word_is_a_setting_and_every_name_is_one() -> None:
    names = {*Experiment.__struct_fields__, *Execution.__struct_fields__}
    assert not names & {*_SYNONYMS, *_INSTEAD}
    assert set(_SYNONYMS.values()) <= names | {"out", "resume"}
    assert meant("labelled") == ""


def test_internal_keys_are_not_offered() -> None:
    with pytest.raises(UsageError) as refused:
        fit(nonsense=1)
    assert "known keys: " in str(refused.value)
    assert "digest" not in str(refused.value).replace("record_digests", "")


def test_on_epoch(tmp_path: Path) -> None:
    seen: list[EpochRecord] = []
    found = fit(epochs=3, on_epoch=seen.append, out=tmp_path / "fit")
    assert seen == found.epochs
    experiment = Experiment(dataset="iris", model="linear", epochs=2)
    told: list[EpochRecord] = []
    dptrain.train(experiment, on_epoch=told.append, progress=False, out=tmp_path / "train")
    assert [each.epoch for each in told] == [1, 2]


def test_what_a_callback_raises_ends_the_run(tmp_path: Path) -> None:
    def enough(record: EpochRecord) -> None:
        raise StopIteration(record.epoch)

    with pytest.raises(StopIteration, match="1"):
        fit(epochs=3, on_epoch=enough, out=tmp_path / "run", workers=2)
    assert fit(epochs=3, resume=tmp_path / "run").evaluation is not None


def test_balanced_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = fit(epochs=1, class_weights="balanced", out=tmp_path / "0")
    weights = read_toml(tmp_path / "0" / "experiment.toml")["experiment"]["class_weights"]
    rare = found.network
    assert weights[1] > weights[0] > 0
    for i, form in enumerate((weights, dict(enumerate(weights)))):
        same = fit(epochs=1, class_weights=form, out=tmp_path / f"same{i}")
        assert same.network.parameters.tobytes() == rare.parameters.tobytes()
    data = write_dataset(tmp_path / "small.npz")
    job = run({"dataset": str(data), "class_weights": "balanced", "steps": 1}, tmp_path / "1").job
    labels = np.asarray(job.dataset.train.targets)
    by_hand = [len(labels) / (3 * int(np.sum(labels == c))) for c in range(3)]
    assert job.experiment.class_weights == pytest.approx(by_hand, rel=1e-5)
    flags = ("--class-weights", "balanced", "--model", "mlp:20-7-3", "--steps", "1")
    out = ("--workers", "1", "--no-curves", "--out", str(tmp_path / "2"))
    assert main(["train", "--dataset", str(data), *flags, *out]) == 0
    assert main(["train", "--dataset", str(data), "--class-weights", "balance"]) == 2
    assert "balance" in capsys.readouterr().err


def test_balanced_weights_need_a_row_of_each_class(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz", regression=True)
    with pytest.raises(UsageError, match="is for classes"):
        run({"dataset": str(data), "class_weights": "balanced"}, tmp_path / "run")
    three = Network(4, [Dense(3)])
    with pytest.raises(UsageError, match="no training row is of class '1'"):
        dptrain.fit(three, (X, 2 * T), class_weights="balanced", workers=1, progress=False)
