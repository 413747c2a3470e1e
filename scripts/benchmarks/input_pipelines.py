"""A contender of `zoo benchmark input`: reads, decodes, resizes and augments images. Prints its measurements."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

_CHECKED = 16
"""Images whose pixels are compared."""


def say(**answer: Any) -> None:
    """Sends an answer to the benchmark process."""
    print("@@" + json.dumps(answer), flush=True)


def files_of(folder: str) -> tuple[list[str], list[int]]:
    """Returns the training images in sorted order, and the number of the class of each."""
    paths = sorted(Path(folder, "train").glob("*/*.jpg"))
    classes = sorted({path.parent.name for path in paths})
    return [str(path) for path in paths], [classes.index(path.parent.name) for path in paths]


Epoch = Callable[[int], Iterable[Any]]


def zoo_epochs(job: dict[str, Any], cache: str | None = None) -> tuple[Epoch, np.ndarray]:
    """This package: the input of `zoo.train`. The inputs are too large for memory."""
    import zoo
    from zoo.training.augmentation import augment, augment_share

    size, batch = job["size"], job["batch_size"]
    places = {"cache": cache, "cache_dir": job["folder"]} if cache == "disk" else {"cache": cache}
    data = zoo.datasets.load(f"images:{job['images']}", memory_limit=0, **places)
    prepared = data.prepare("mobilenet_v2", input_shape=[size, size, 3])
    whole: dict[str, Any] = {"seed": 0, "start": 0}

    def epoch(number: int) -> Iterable[Any]:
        if job.get("share"):
            rows = prepared.share("train", batch, (*job["share"], 1), epoch=number, **whole)
            assert rows is not None
            return augment_share(rows, ["flip", "crop"], epoch=number, **whole)
        batches = prepared.batches("train", batch, epoch=number, **whole)
        return augment(batches, ["flip", "crop"], epoch=number, num_classes=2, **whole)

    first = prepared.batches("train", _CHECKED).take(1).as_numpy_iterator()
    return epoch, next(iter(first))[0]["image"]


def _tf_image(path: Any, size: int) -> Any:
    import tensorflow as tf

    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
    return tf.image.resize(image, (size, size), antialias=True) / 255


def tf_data_epochs(job: dict[str, Any]) -> tuple[Epoch, np.ndarray]:
    """Plain tf.data as in TensorFlow's guide: list, shuffle, map, batch, prefetch."""
    import tensorflow as tf

    size, shift = job["size"], job["size"] // 8
    files, labels = files_of(job["images"])

    def one(path: Any, label: Any) -> Any:
        image = tf.image.random_flip_left_right(_tf_image(path, size))
        image = tf.pad(image, [[shift, shift], [shift, shift], [0, 0]])
        return tf.image.random_crop(image, (size, size, 3)), label

    dataset = tf.data.Dataset.from_tensor_slices((files, labels)).shuffle(len(files))
    dataset = dataset.map(one, num_parallel_calls=tf.data.AUTOTUNE).batch(job["batch_size"])
    pixels = np.stack([_tf_image(path, size) for path in files[:_CHECKED]])
    return lambda number: dataset.prefetch(tf.data.AUTOTUNE), pixels


def keras_epochs(job: dict[str, Any]) -> tuple[Epoch, np.ndarray]:
    """Keras's image_dataset_from_directory, and its layers for flips and shifts. It resizes without anti-aliasing."""
    import keras
    import tensorflow as tf

    size = job["size"]
    arguments = {"image_size": (size, size), "batch_size": job["batch_size"], "verbose": False}
    folder = str(Path(job["images"], "train"))
    layers = keras.Sequential(
        [
            keras.layers.Rescaling(1 / 255),
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomTranslation(1 / 8, 1 / 8, fill_mode="constant", interpolation="nearest"),
        ]
    )
    dataset = keras.utils.image_dataset_from_directory(folder, **arguments)
    changed = dataset.map(lambda x, y: (layers(x, training=True), y), num_parallel_calls=tf.data.AUTOTUNE)
    ordered = keras.utils.image_dataset_from_directory(folder, shuffle=False, **arguments)
    pixels = next(iter(ordered.unbatch().batch(_CHECKED)))[0].numpy() / 255
    return lambda number: changed.prefetch(tf.data.AUTOTUNE), pixels


def _pillow_image(path: str, size: int) -> Any:
    from PIL import Image

    with Image.open(path) as opened:
        return opened.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)


def _pillow_augmented(path: str, size: int, generator: np.random.Generator) -> np.ndarray:
    """Returns a flipped and shifted image as float32, with Pillow alone."""
    from PIL import Image, ImageOps

    image, shift = _pillow_image(path, size), size // 8
    if generator.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    left, top = generator.integers(0, 2 * shift + 1, 2).tolist()
    image = ImageOps.expand(image, shift).crop((left, top, left + size, top + size))
    return np.asarray(image, np.float32) / 255


def torch_epochs(job: dict[str, Any]) -> tuple[Epoch, np.ndarray]:
    """PyTorch's DataLoader with two workers; the transforms of torchvision, or of Pillow if it is not installed."""
    import torch

    size, (files, labels) = job["size"], files_of(job["images"])
    try:
        from torchvision import transforms
    except (ImportError, RuntimeError):  # it is missing, or made for another version of PyTorch
        transform: Any = None
    else:
        steps = [
            transforms.RandomHorizontalFlip(),
            transforms.RandomCrop(size, padding=size // 8),
            transforms.ToTensor(),
        ]
        transform = transforms.Compose(steps)

    class Folder(torch.utils.data.Dataset):
        """The training images."""

        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, number: int) -> Any:
            if transform is not None:
                return transform(_pillow_image(files[number], size)), labels[number]
            generator = np.random.default_rng(int(torch.randint(2**31, ()).item()))
            return torch.from_numpy(_pillow_augmented(files[number], size, generator)), labels[number]

    loader: Any = torch.utils.data.DataLoader(
        Folder(), batch_size=job["batch_size"], shuffle=True, num_workers=2, persistent_workers=True
    )
    job["with"] = "torchvision" if transform is not None else "Pillow, as torchvision cannot be imported"
    pixels = np.stack([np.asarray(_pillow_image(path, size), np.float32) / 255 for path in files[:_CHECKED]])
    return lambda number: loader, pixels


def grain_epochs(job: dict[str, Any]) -> tuple[Epoch, np.ndarray]:
    """Grain with two worker processes, which are started for every epoch, and Pillow."""
    import grain

    size, (files, labels) = job["size"], files_of(job["images"])

    class Load(grain.transforms.RandomMap):
        """Decodes and augments an image."""

        def random_map(self, element: int, rng: np.random.Generator) -> Any:
            """Returns the image and its label."""
            return _pillow_augmented(files[element], size, rng), labels[element]

    def epoch(number: int) -> Iterable[Any]:
        rows = grain.MapDataset.source(range(len(files))).seed(number).shuffle().random_map(Load())
        batches = rows.batch(job["batch_size"]).to_iter_dataset()
        options = grain.multiprocessing.MultiprocessingOptions(num_workers=2, per_worker_buffer_size=2)
        return batches.mp_prefetch(options)

    pixels = np.stack([np.asarray(_pillow_image(path, size), np.float32) / 255 for path in files[:_CHECKED]])
    return epoch, pixels


def decode_epochs(job: dict[str, Any]) -> tuple[Epoch, None]:
    """libjpeg-turbo alone, as it is in TensorFlow: files are read and decoded, and the pixels are dropped."""
    import tensorflow as tf

    files, _ = files_of(job["images"])

    def one(path: Any) -> Any:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.cast(image[0, 0, 0], tf.float32)

    dataset = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files))
    dataset = dataset.map(one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False).batch(job["batch_size"])
    return lambda number: ((batch,) for batch in dataset.prefetch(tf.data.AUTOTUNE)), None


EPOCHS: dict[str, Callable[[dict[str, Any]], tuple[Epoch, np.ndarray | None]]] = {
    "zoo": zoo_epochs,
    "zoo_memory": lambda job: zoo_epochs(job, "memory"),
    "zoo_disk": lambda job: zoo_epochs(job, "disk"),
    "tf_data": tf_data_epochs,
    "keras": keras_epochs,
    "torch": torch_epochs,
    "grain": grain_epochs,
    "decode": decode_epochs,
}
_NEEDS = {"torch": "torch", "grain": "grain"}


def _batches(epoch: Epoch) -> Iterator[Any]:
    for number in itertools.count():
        yield from epoch(number)


def main(job: dict[str, Any]) -> None:
    """Measures rounds on request: how long a number of batches takes, after two that are not counted."""
    if cores := job.get("cores"):
        os.sched_setaffinity(0, cores)
    needed = _NEEDS.get(job["contender"])
    if needed is not None:
        try:
            __import__(needed)
        except ImportError:
            say(skipped=f"{needed} is not installed.")
            return
    if job["contender"] not in _NEEDS:
        from zoo.scripts.console import import_tensorflow

        import_tensorflow()
    epoch, pixels = EPOCHS[job["contender"]](job)
    if pixels is not None:
        np.save(Path(job["folder"]) / f"{job['contender']}.npy", pixels)
    say(parameters=0, loss=0.0, **({"with": job["with"]} if "with" in job else {}))
    round_number = 0
    while sys.stdin.readline().strip() == "round":
        batches = _batches(lambda number: epoch(1000 * round_number + number))  # noqa: B023
        for _ in range(2):
            next(batches)
        begun, cpu, images = time.perf_counter(), cpu_seconds(), 0
        for _ in range(job["batches"]):
            images += len(_first(next(batches)))
        seconds, spent = time.perf_counter() - begun, cpu_seconds() - cpu
        batches.close()  # type: ignore[attr-defined]
        round_number += 1
        say(seconds=seconds, cpu_seconds=spent, examples=images)


def cpu_seconds() -> float:
    """Returns the CPU time of this process and of its children, whether they have ended or not."""
    own, total = os.getpid(), sum(os.times()[:4])
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == own:
                    total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


def _first(batch: Any) -> Any:
    """Returns a tensor with a row per image of a batch of any contender."""
    while isinstance(batch, (tuple, list, dict)):
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    return batch


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
