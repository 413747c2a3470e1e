"""The embedded digits, their requirements for a model, and the order of batches."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

import zoo
from dataset_arrays import SPLITS, columns, multiset, raw, scaled
from zoo import registry
from zoo.datasets import sampling
from zoo.datasets.description import describe_data
from zoo.datasets.interface import Interface
from zoo.datasets.preprocessing.base import PREPROCESSORS
from zoo.datasets.raw import Feature
from zoo.datasets.split_reader import SplitReader
from zoo.datasets.unknown_tokens import describe_unknown


@pytest.fixture(scope="module")
def digits():
    return zoo.datasets.load("digits")


# --- The embedded digits ---------------------------------------------------------------------------------------------


def test_digits_contain_every_example_once(digits):
    source = load_digits()
    parts = [raw(getattr(digits, name)) for name in SPLITS]
    assert [len(labels) for _, labels in parts] == [1293, 144, 360]
    assert [digits.splits[name].num_examples for name in SPLITS] == [1293, 144, 360]
    images = np.concatenate([np.stack(images) for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    # Level 16 is white; scikit-learn stores the levels as float64.
    expected = np.floor(source.images * 255 / 16 + 0.5).astype(np.uint8)[..., np.newaxis]
    assert multiset(images, labels) == multiset(expected, source.target)
    assert (images.min(), images.max()) == (0, 255)


def test_digits_splits_share_no_example(digits):
    held = [set(multiset(np.stack(images), labels)) for images, labels in (raw(getattr(digits, n)) for n in SPLITS)]
    twins = Counter((i.tobytes(), t) for i, t in zip(load_digits().images, load_digits().target, strict=True))
    assert max(twins.values()) == 1, "no digit is in the source twice, so sets can be compared"
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]


@pytest.mark.parametrize("split", SPLITS)
def test_every_digit_is_in_every_split(digits, split):
    labels = raw(getattr(digits, split))[1]
    counts = np.bincount(labels, minlength=10)
    assert counts.min() >= 0.9 * len(labels) / 10


def test_digits_are_the_same_every_time(digits):
    again = zoo.datasets.load("digits")
    for split in SPLITS:
        (images, labels), (others, same) = raw(getattr(digits, split)), raw(getattr(again, split))
        np.testing.assert_array_equal(np.stack(images), np.stack(others))
        np.testing.assert_array_equal(labels, same)


def test_digits_describe_their_content(digits):
    assert digits.class_names == tuple("0123456789")
    assert digits.task == "image_classification"
    assert digits.features == {"image": Feature((8, 8, 1), "uint8"), "label": Feature((), "int64")}
    assert digits.licence == "CC BY 4.0"
    assert "UCI" in digits.source
    assert digits.train.element_spec["image"] == tf.TensorSpec((8, 8, 1), tf.uint8)


def test_digits_reject_manual_dir(tmp_path):
    with pytest.raises(zoo.UsageError, match=r"'digits' is embedded and takes no manual_dir. Leave it out."):
        zoo.datasets.load("digits", manual_dir=str(tmp_path))


# --- prepare ---------------------------------------------------------------------------------------------------------


def test_small_images_are_resized_to_the_required_size(digits):
    prepared = digits.prepare("cnn")
    assert prepared.arguments["input_shape"] == (28, 28, 1)
    assert prepared.arguments["num_classes"] == 10
    assert prepared.arguments["filters"] == (32, 64, 128), "defaults are written down too"
    assert prepared.preprocessor.input_shapes == {"image": (28, 28, 1)}
    assert prepared.build().input_shape == (None, 28, 28, 1)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ((64, 50, 3), (64, 50, 3)),
        ((28, 28, 1), (28, 28, 1)),
        ((27, 90, 1), (28, 28, 1)),
        ((None, None, 3), (28, 28, 3)),
        ((64, None, 1), (28, 28, 1)),
        ((64, 64, 4), (64, 64, 3)),
        ((64, 64, 2), (64, 64, 1)),
        ((64, 64, None), (64, 64, 3)),
    ],
)
def test_the_data_determines_the_model_input(digits, own, expected):
    data = dataclasses.replace(digits, features={**digits.features, "image": Feature(own, "uint8")})
    assert data.prepare("mlp").arguments["input_shape"] == expected


def test_a_given_input_shape_is_used(digits):
    prepared = digits.prepare("mlp", input_shape=[10, 6, 3], hidden_units=[4])
    assert prepared.arguments["input_shape"] == (10, 6, 3)
    inputs, targets = next(iter(prepared.keras_batches("train", 7)))
    assert (inputs.shape, inputs.dtype, targets.dtype) == ((7, 10, 6, 3), tf.float32, tf.int64)
    assert prepared.build()(inputs).shape == (7, 10)


@pytest.mark.parametrize("wrong", [[28, 28], 28, [28, 28, 2], [0, 28, 1], [28.0, 28, 1], "28x28"])
def test_invalid_input_shapes_are_rejected(digits, wrong):
    with pytest.raises(zoo.UsageError) as caught:
        digits.prepare("mlp", input_shape=wrong)
    assert str(caught.value) == (
        f"input_shape is {wrong!r}; expected [height, width, channels] with 1 or 3 channels. "
        "Pass input_shape=[28, 28, 1], say, or leave it out."
    )


def test_the_data_determines_the_classes(digits):
    message = r"^num_classes=12 contradicts data set 'digits', which needs 10. Leave num_classes out.$"
    with pytest.raises(zoo.UsageError, match=message):
        digits.prepare("cnn", num_classes=12)
    assert digits.prepare("cnn", num_classes=10).arguments["num_classes"] == 10


def test_unknown_arguments_and_models_are_rejected(digits):
    with pytest.raises(zoo.UsageError, match=r"^Model 'cnn' has no argument 'filter'. Did you mean 'filters'"):
        digits.prepare("cnn", filter=[3])
    with pytest.raises(zoo.UsageError, match=r"^Unknown model 'cn'. Did you mean 'cnn'"):
        digits.prepare("cn")


def test_a_model_without_image_size_rejects_images_of_various_sizes(monkeypatch, tmp_path):
    zoo.list_models()
    monkeypatch.setattr(registry.MODELS, "entries", dict(registry.MODELS.entries))

    @zoo.register_model(tasks=("image_classification",), reference="none")
    def build_plain_model(input_shape, num_classes):
        """Averages an image."""
        inputs = keras.Input(input_shape, name="image")
        outputs = keras.layers.Dense(num_classes, "softmax", name="probabilities")(
            keras.layers.GlobalAveragePooling2D()(inputs)
        )
        return keras.Model(inputs, outputs)

    for i in range(40):
        file = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(file, np.full((8 + i % 3, 8, 3), i), scale=False)
    data = zoo.datasets.load(f"images:{tmp_path / 'photos'}")
    with pytest.raises(zoo.UsageError) as caught:
        data.prepare("plain")
    assert str(caught.value) == (
        f"The images of data set {data.name!r} have various sizes. Pass input_shape=[28, 28, 1], say, or name an image_size "
        "in the model's preprocessing."
    )
    assert data.prepare("plain", input_shape=[8, 8, 3]).build().input_shape == (None, 8, 8, 3)


def test_a_model_of_another_task_is_rejected(digits, monkeypatch):
    zoo.list_models()
    monkeypatch.setattr(registry.MODELS, "entries", dict(registry.MODELS.entries))

    @zoo.register_model(tasks=("tagging", "forecasting"), reference="none")
    def build_tagger_model(num_classes):
        """Tags."""

    with pytest.raises(zoo.UsageError) as caught:
        digits.prepare("tagger")
    assert str(caught.value) == (
        "Model 'tagger' serves tagging, forecasting; data set 'digits' is for image_classification. "
        f"Choose a model for this data: {', '.join(zoo.list_models(task='image_classification'))}."
    )


def test_a_run_can_be_repeated_from_its_description(digits):
    prepared = dataclasses.replace(digits, memory_limit=0).prepare("mlp", hidden_units=(3, 4))
    described = prepared.describe()
    assert described["model"] == {
        "name": "mlp",
        "hidden_units": [3, 4],
        "activation": "relu",
        "dropout": 0.0,
        "classifier_activation": "softmax",
        "number_embedding": "bins",
        "embedding_dim": 16,
        "category_dim": 8,
        "members": 1,
    }
    # input_shape is omitted because the data determines it: another data set sets another value.
    # Streams are shuffled in another order, so the memory limit affects the results of a run.
    assert described["data"] == {"name": "digits", "memory_limit": 0}
    source, model = dict(described["data"]), dict(described["model"])
    again = zoo.datasets.load(source.pop("name"), **source).prepare(model.pop("name"), **model)
    assert again.describe() == described


# --- Batches ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["memory", "stream"])
def prepared(request, digits):
    data = digits if request.param == "memory" else dataclasses.replace(digits, memory_limit=0)
    return data.prepare("mlp", input_shape=[8, 8, 1], hidden_units=[4])


def test_memory_and_stream_are_both_used(digits, monkeypatch):
    """Otherwise, the tests below would prove one path twice."""
    streams = []
    original = SplitReader._stream
    record = lambda self, *a: streams.append(self.data.memory_limit) or original(self, *a)  # noqa: E731
    monkeypatch.setattr(SplitReader, "_stream", record)
    size = 4 * 8 * 8 * 144
    for limit in (size, size - 1):
        data = dataclasses.replace(digits, memory_limit=limit)
        data.prepare("mlp", input_shape=[8, 8, 1]).keras_batches("validation", 10)
    assert streams == [size - 1]


def test_without_a_seed_examples_keep_the_order_of_the_split(prepared, digits):
    images, labels = raw(digits.validation)
    inputs, targets = columns(prepared.keras_batches("validation", 50))
    np.testing.assert_array_equal(inputs, scaled(np.stack(images)))
    np.testing.assert_array_equal(targets, labels)
    np.testing.assert_array_equal(columns(prepared.keras_batches("validation", 50, epoch=3))[1], labels)


def test_the_last_batch_is_smaller(prepared):
    assert [len(targets) for _, targets in prepared.keras_batches("train", 500, seed=1)] == [500, 500, 293]
    assert [len(targets) for _, targets in prepared.keras_batches("validation", 1000)] == [144]
    assert [len(targets) for _, targets in prepared.keras_batches("test", 36)] == [36] * 10


@pytest.mark.parametrize("seed", [None, 0, 7])
def test_every_example_occurs_once(prepared, digits, seed):
    images, labels = raw(digits.train)
    inputs, targets = columns(prepared.keras_batches("train", 100, seed=seed, epoch=2))
    levels = np.round(inputs * 255).astype(np.uint8)
    assert multiset(levels, targets) == multiset(np.stack(images), labels)


def test_the_order_depends_only_on_seed_and_epoch(prepared):
    def order(**how: int) -> np.ndarray:
        return columns(prepared.keras_batches("train", 64, **how))[0]

    first = order(seed=3, epoch=5)
    np.testing.assert_array_equal(first, order(seed=3, epoch=5))
    dataset = prepared.keras_batches("train", 64, seed=3, epoch=5)
    np.testing.assert_array_equal(columns(dataset)[0], columns(dataset)[0], "read twice, one data set gives one order")
    for other in (order(seed=3, epoch=6), order(seed=4, epoch=5), order(seed=5, epoch=3), order(epoch=5)):
        assert (first != other).any(axis=(1, 2, 3)).mean() > 0.9


def test_the_batch_size_does_not_change_the_order(prepared):
    whole = columns(prepared.keras_batches("train", 64, seed=3))[0]
    np.testing.assert_array_equal(whole, columns(prepared.keras_batches("train", 100, seed=3))[0])


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("start", [0, 1, 20, 21])
def test_a_later_start_gives_the_remaining_batches(prepared, seed, start):
    """1,293 examples are 21 batches of 64. A run killed after `start` of them must get exactly the others."""
    whole = list(prepared.keras_batches("train", 64, seed=seed, epoch=1).as_numpy_iterator())
    tail = list(prepared.keras_batches("train", 64, seed=seed, epoch=1, start=start).as_numpy_iterator())
    assert len(tail) == len(whole) - start
    for (inputs, targets), (others, same) in zip(whole[start:], tail, strict=True):
        np.testing.assert_array_equal(inputs, others)
        np.testing.assert_array_equal(targets, same)


def test_target_counts_equal_numpy(prepared, digits):
    counts = prepared.target_counts("train")
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, np.bincount(raw(digits.train)[1]))


def test_target_counts_include_missing_classes(digits):
    data = dataclasses.replace(digits, class_names=(*digits.class_names, "ten"))
    assert data.prepare("mlp").target_counts("validation").tolist()[10:] == [0]


def test_the_number_of_examples_is_correct(prepared):
    assert [prepared.num_examples(name) for name in SPLITS] == [1293, 144, 360]


@pytest.mark.parametrize("ask", ["batches", "num_examples", "target_counts"])
def test_unknown_splits_are_rejected(prepared, ask):
    with pytest.raises(zoo.UsageError, match=r"^Data set 'digits' has no split 'valid'. Did you mean 'validation'\?$"):
        getattr(prepared, ask)("valid", *((8,) if ask == "batches" else ()))


# --- Interface -------------------------------------------------------------------------------------------------------


def test_examples_come_from_every_class_of_the_test_split(digits):
    prepared = digits.prepare("mlp", input_shape=[8, 8, 1])
    examples = prepared.interface.examples
    contents = examples.requests["image_bytes"].tolist()
    assert len(contents) == len(examples.targets["label"]) == 64
    assert Counter(examples.targets["label"].tolist()).keys() == set(range(10))
    assert min(Counter(examples.targets["label"].tolist()).values()) >= 6, "the classes share the examples evenly"
    images = np.stack([tf.io.decode_png(content).numpy() for content in contents])
    test = multiset(*(np.stack(c) if isinstance(c, list) else c for c in raw(digits.test)))
    assert not multiset(images, examples.targets["label"]) - test
    assert prepared.interface is prepared.interface, "made once"


def test_an_interface_is_restored_from_its_folder(digits, tmp_path):
    interface = digits.prepare("cnn", filters=(3,)).interface
    interface.save(tmp_path / "new" / "folder")
    again = Interface.load(tmp_path / "new" / "folder")
    for field in ("task", "build", "class_names", "preprocessor", "data"):
        assert getattr(again, field) == getattr(interface, field), field
    assert again.build["arguments"]["filters"] == [3]
    assert again.data == {"name": "digits", "licence": digits.licence, "source": digits.source}
    assert again.examples.requests.keys() == interface.examples.requests.keys()
    for name, values in interface.examples.requests.items():
        assert again.examples.requests[name].tolist() == values.tolist()
    np.testing.assert_array_equal(again.examples.targets["label"], interface.examples.targets["label"])


def test_a_folder_without_an_interface_is_rejected(tmp_path):
    with pytest.raises(
        zoo.UsageError, match=r"holds no interface.json. Pass the folder `interface` of a run that `zoo"
    ):
        Interface.load(tmp_path)


def test_the_share_of_unknown_tokens_is_described(tmp_path):
    sentences = [f"好书第{i}页内容{i * 7}完" for i in range(80)] + [f"good book {i % 3}" for i in range(80)]
    lines = "".join(f"{sentence},{'ab'[i % 2]}\n" for i, sentence in enumerate(sentences))
    (tmp_path / "a.csv").write_text("text,label\n" + lines, encoding="utf-8")
    data = zoo.datasets.load(f"csv:{tmp_path / 'a.csv'}", tokenizer="words")
    prepared = data.prepare("embedding_lstm")
    known = set(prepared.preprocessor.vocabulary)
    texts = [example["text"].decode() for example in data.validation.as_numpy_iterator()]
    words = [word in known for text in texts for word in text.split()]  # no punctuation here
    share = f"{words.count(False) / len(words):.1%}"
    found = describe_unknown(prepared)
    assert found.startswith(f"\nUnknown tokens: {share} in the validation split.")
    assert ("\nWarning: the model does not know" in found) == (words.count(False) / len(words) > 0.3)
    assert describe_unknown(zoo.datasets.load("digits").prepare("mlp")) == ""


@pytest.mark.parametrize(
    ("content", "model"),
    [
        ("text,label\n" + "".join(f"good book {i % 3},{'ab'[i % 2]}\n" for i in range(60)), "embedding_lstm"),
        ("sentence,tokens,tags\n" + "".join(f"{i // 3},good{i % 4},{'ab'[i % 2]}\n" for i in range(180)), "rnn"),
        ("text,translation\n" + "".join(f"book {i},livre {i}\n" for i in range(60)), "seq2seq_rnn"),
    ],
)
def test_every_tokenizer_says_how_much_it_does_not_know(tmp_path, content, model):
    (tmp_path / "a.csv").write_text(content)
    prepared = zoo.datasets.load(f"csv:{tmp_path}/a.csv").prepare(model)
    assert re.search(r"Unknown tokens: \d+\.\d% in the validation split", describe_unknown(prepared))
    with_vocabulary = [cls for cls in PREPROCESSORS.values() if {"vocabulary", "source_vocabulary"} & {*_fields(cls)}]
    assert len(with_vocabulary) >= 5
    assert all(hasattr(cls, "unknown") for cls in with_vocabulary)


def test_word_forms_make_more_unknown_words_usual():
    tagged = zoo.datasets.load("tagged_commands").prepare("rnn").preprocessor
    assert tagged.form_vocabulary
    assert tagged.unknown.many == 0.6
    without = dataclasses.replace(tagged, form_vocabulary=())
    assert without.unknown == tagged.unknown._replace(many=0.3)


def _fields(cls):
    return [field.name for field in dataclasses.fields(cls)]


def test_texts_whose_words_are_all_rare_are_rejected(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"x{i}y,{'ab'[i % 2]}\n" for i in range(60)))
    with pytest.raises(
        zoo.UsageError, match=r"^Each of the 48 different words .* is too rare to learn. Pass more texts"
    ):
        zoo.datasets.load(f"csv:{tmp_path}/a.csv", tokenizer="words").prepare("embedding_lstm")
    found = zoo.datasets.load(f"csv:{tmp_path}/a.csv").prepare("embedding_lstm").preprocessor
    assert found.tokenizer == "characters" and found.choices.notes[0] == "tokenizer characters: no word occurs twice."


@pytest.mark.parametrize(
    ("sizes", "expected", "note"),
    [
        ([(40, 50), (44, 52), (48, 60)], (44, 52), "have a median size of 44 x 52 pixels"),
        ([(300, 200), (310, 220), (320, 180)], (64, 41), "have a median size of 310 x 200 pixels"),
        ([(300, 200)], (64, 43), "The images have 300 x 200 pixels. The model's input has 64 x 43"),
        ([(28, 28)], (28, 28), ""),
        ([(64, 40)], (64, 40), ""),
        ([(12, 20), (14, 20), (16, 20)], (28, 28), ""),
        ([(900, 30)], (64, 28), "The images have 900 x 30 pixels"),
    ],
)
def test_the_input_size_follows_the_images(tmp_path, sizes, expected, note):
    generator = np.random.default_rng(0)
    for split, count in (("train", 24), ("validation", 4), ("test", 4)):
        for i in range(count):
            # Images of validation and test are larger: the size depends on those of training only.
            height, width = sizes[i // 2 % len(sizes)] if split == "train" or len(sizes) == 1 else (500, 500)
            file = tmp_path / split / "ab"[i % 2] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            keras.utils.save_img(file, generator.integers(0, 255, (height, width, 3)), scale=False)
    prepared = zoo.datasets.load(f"images:{tmp_path}").prepare("cnn")
    assert prepared.arguments["input_shape"] == (*expected, 3)
    assert note in describe_data(prepared)
    assert ("--model.input_shape" in describe_data(prepared)) == bool(note)
    assert "choices" not in prepared.preprocessor.config()
    given = zoo.datasets.load(f"images:{tmp_path}").prepare("cnn", input_shape=[30, 30, 3])
    assert given.arguments["input_shape"] == (30, 30, 3)
    assert "--model.input_shape" not in describe_data(given)


def test_statistics_of_large_images_are_of_enough_examples(monkeypatch):
    splits = zoo.datasets.load("digits").prepare("cnn")._splits
    whole = sampling.describe_training(splits)
    monkeypatch.setattr(sampling, "BYTES", 100)  # an image has 64 bytes: as if each had 12 million pixels
    assert sampling.describe_training(splits) == whole and whole["examples"] == 1_000
    monkeypatch.setattr(sampling, "_MOST_READ", 200)
    assert sampling.describe_training(splits)["examples"] == 30


def test_chosen_examples_are_read_without_the_others(tmp_path):
    generator, files = np.random.default_rng(0), {}
    for number in range(12):
        file = tmp_path / "train" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        files[file] = generator.integers(0, 255, (5, 4, 3)).astype(np.uint8)
        keras.utils.save_img(file, files[file], scale=False)
    for split in ("validation", "test"):
        shutil.copytree(tmp_path / "train", tmp_path / split)
    split = zoo.datasets.load(f"images:{tmp_path}").splits["train"]
    whole = list(split.dataset().as_numpy_iterator())
    places = np.array([1, 4, 11])
    for file, pixels in files.items():
        if not any(np.array_equal(pixels, whole[place]["image"]) for place in places):
            file.unlink()
    for found, place in zip(split.pick(places).dataset().as_numpy_iterator(), places, strict=True):
        np.testing.assert_array_equal(found["image"], whole[place]["image"])
        assert found["label"] == whole[place]["label"]


@pytest.mark.parametrize("arguments", [{}, {"examples_per_class": 3}])
def test_chosen_examples_are_those_of_the_dataset(arguments):
    split = zoo.datasets.load("digits", **arguments).splits["train"]
    places = np.array([0, 7, 25])
    whole = list(split.dataset().take(26).as_numpy_iterator())
    for found, place in zip(split.pick(places).dataset().as_numpy_iterator(), places, strict=True):
        np.testing.assert_array_equal(found["image"], whole[place]["image"])
    assert not list(split.pick(np.array([], np.int64)).dataset().as_numpy_iterator())
