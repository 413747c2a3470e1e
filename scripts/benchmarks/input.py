"""Compare how fast images are read, decoded and augmented: `zoo benchmark input --photographs photos.zip`."""

from __future__ import annotations

import dataclasses
import io
import os
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, did_you_mean
from zoo.scripts.benchmarks.tables import Figures
from zoo.scripts.benchmarks.training import Worker
from zoo.scripts.console import Parser, run_command

if TYPE_CHECKING:
    import numpy as np

_DESCRIPTION = """Measure how many JPEG files per second become augmented training batches.

The files are random crops of 500 x 375 pixels, made with a fixed seed. Every contender decodes whole files, resizes them
with bilinear interpolation, flips half of them and shifts all by up to an eighth. The pixels before the augmentation are
compared. Every contender has its own process; rounds alternate (A B C A B C), so that other load on the machine affects all
of them equally. Each round begins with a new epoch, of which the first two batches are not counted.
"""

CONTENDERS = {
    "zoo": "zoo",
    "zoo_memory": "zoo, --data.cache memory",
    "zoo_disk": "zoo, --data.cache disk",
    "tf_data": "tf.data",
    "keras": "Keras image_dataset_from_directory, no anti-aliasing",
    "torch": "PyTorch DataLoader, 2 workers",
    "grain": "Grain, 2 workers",
    "decode": "decoding alone (libjpeg-turbo)",
}
FIGURES = Figures(
    ("files", "size", "batch_size"), "images_per_second", ("cpu_milliseconds", "pixel_difference"), CONTENDERS, ",.0f"
)
NOTES = (
    "Images per second; the median of all rounds. Ratio: zoo's images per second divided by the contender's in the same",
    "round; the median of all rounds. Decoding alone resizes, batches and augments nothing. The CPU time of an image depends",
    "less on other load on the machine: two free cores do at most 2,000 divided by it, per second.",
)
_SHAPE = (375, 500)
_CLASSES = 5


def photographs(path: str | None) -> list[np.ndarray]:
    """Returns scikit-learn's two photographs and the JPEG files of a ZIP file, uint8 (height, width, 3)."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    found = [*load_sample_images().images]
    if path is not None:
        try:
            with zipfile.ZipFile(path) as archive:
                names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpg", ".jpeg")))
                for name in names:
                    with Image.open(io.BytesIO(archive.read(name))) as image:
                        found.append(np.asarray(image.convert("RGB")))
        except (OSError, zipfile.BadZipFile) as error:
            raise UsageError(
                f"--photographs {path} cannot be read: {error}. Pass a ZIP file with JPEG files."
            ) from error
    return [image for image in found if image.shape[0] >= _SHAPE[0] and image.shape[1] >= _SHAPE[1]]


def write_files(folder: Path, count: int, sources: Sequence[np.ndarray]) -> int:
    """Writes crops of photographs as JPEG files FOLDER/train/CLASS/*.jpg, and a few for the other splits. Returns the mean
    size of a file in bytes."""
    import numpy as np
    from PIL import Image

    generator, (height, width) = np.random.default_rng(0), _SHAPE
    size = 0
    for number in range(count + 2 * _CLASSES):
        role = "train" if number < count else ("validation", "test")[(number - count) // _CLASSES]
        file = folder / role / f"class_{number % _CLASSES}" / f"{number:05d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        source = sources[int(generator.integers(len(sources)))]
        top, left = (
            int(generator.integers(total - part + 1)) for total, part in zip(source.shape, _SHAPE, strict=False)
        )
        Image.fromarray(source[top : top + height, left : left + width]).save(file, quality=90)
        size += file.stat().st_size
    return size // (count + 2 * _CLASSES)


def _job(contender: str, images: Path, folder: Path, options: Any, **more: Any) -> dict[str, Any]:
    shared = {"images": str(images), "folder": str(folder), "threads": os.cpu_count() or 1, "batches": options.batches}
    return {"contender": contender, "size": options.size, "batch_size": options.batch_size, **shared, **more}


def start(job: Mapping[str, Any]) -> tuple[Worker, dict[str, Any]]:
    """Starts a contender and returns it with its first answer."""
    worker = Worker([sys.executable, "-P", "-m", "zoo.scripts.benchmarks.input_pipelines"], job)
    try:
        return worker, worker.answer()
    except BaseException:
        worker.close()
        raise


@dataclasses.dataclass
class Measured:
    """A contender's figures.

    Attributes:
        contender: its name.
        rates: images per second of each round.
        cost: CPU milliseconds per image, of all its processes; the median of all rounds.
        ratio: our images per second divided by its, in the same round; the median of all rounds.
        difference: of its pixels from ours, before the augmentation; the mean, in levels of 255.
    """

    contender: str
    rates: list[float]
    cost: float
    ratio: float
    difference: float


def measure(images: Path, folder: Path, options: Any, skipped: dict[str, str]) -> list[Measured]:
    """Returns the figures of each contender; those that are not installed are added to `skipped`."""
    workers: dict[str, Worker] = {}
    rates: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {name: [] for name in options.contenders}
    try:
        for contender in options.contenders:
            worker, first = start(_job(contender, images, folder, options))
            if "skipped" in first:
                worker.close()
                skipped[contender] = first["skipped"]
                continue
            if "with" in first:
                print(f"{CONTENDERS[contender]}: with the transforms of {first['with']}", flush=True)
            workers[contender] = worker
            rates[contender] = []
        for worker in workers.values():
            worker.answer("round")
        for _ in range(options.rounds):
            for name, worker in workers.items():
                found = worker.answer("round")
                rates[name].append(found["examples"] / found["seconds"])
                costs[name].append(1000 * found["cpu_seconds"] / found["examples"])
    finally:
        for worker in workers.values():
            worker.close()
    ratios = {
        name: statistics.median(ours / theirs for ours, theirs in zip(rates["zoo"], found, strict=True))
        for name, found in rates.items()
    }
    return [
        Measured(name, found, statistics.median(costs[name]), ratios[name], _difference(folder, name))
        for name, found in rates.items()
    ]


def _difference(folder: Path, contender: str) -> float:
    """Returns the mean difference of a contender's pixels from ours, in levels of 255.

    Raises:
        UsageError: it reads other images.
    """
    import numpy as np

    if not (file := folder / f"{contender}.npy").is_file():
        return 0.0
    difference = float(np.abs(np.load(file) - np.load(folder / "zoo.npy")).mean() * 255)
    if difference > 8:
        raise UsageError(
            f"The pixels of {contender} differ by {difference:.1f} levels. Leave it out with --contenders."
        )
    return difference


def measure_workers(images: Path, folder: Path, options: Any) -> list[tuple[float, float]]:
    """Returns, for one worker on one core, and for two workers with a core each: images per second, and CPU milliseconds per
    image; medians of rounds that alternate. Each worker decodes its own rows of each batch."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    shares = [((0, 1), cores[0]), ((0, 2), cores[0]), ((1, 2), cores[-1])]
    jobs = [_job("zoo", images, folder, options, share=list(share), cores=[core]) for share, core in shares]
    started = []
    try:
        for job in jobs:
            started.append(start({**job, "contender": "zoo"})[0])
        alone, *pair = started
        rounds = [([alone.answer("round")], _together(pair)) for _ in range(options.rounds + 1)][1:]
    finally:
        for worker in started:
            worker.close()
    return [
        (statistics.median(map(_rate, answers)), statistics.median(map(_cost, answers)))
        for answers in zip(*rounds, strict=True)
    ]


def _together(pair: Sequence[Worker]) -> list[dict[str, Any]]:
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(len(pair)) as pool:
        return list(pool.map(lambda worker: worker.answer("round"), pair))


def _rate(answers: Sequence[Mapping[str, Any]]) -> float:
    return sum(answer["examples"] for answer in answers) / max(answer["seconds"] for answer in answers)


def _cost(answers: Sequence[Mapping[str, Any]]) -> float:
    return 1000 * sum(answer["cpu_seconds"] for answer in answers) / sum(answer["examples"] for answer in answers)


def resume_seconds(rows: int) -> Iterator[tuple[str, float]]:
    """Yields the seconds to the first batch at the start and at 90 % of an epoch of rows that are too many for memory."""
    import numpy as np

    import zoo

    x = np.random.default_rng(0).normal(size=(rows, 8)).astype("float32")
    data = zoo.datasets.load((x, (x[:, 0] > 0).astype(int)), task="tabular_classification", memory_limit=0)
    prepared = data.prepare("mlp")
    steps = prepared.num_examples("train") // 64
    for name, step in (("the start", 0), ("90 %", steps * 9 // 10)):
        begun = time.perf_counter()
        next(iter(prepared.batches("train", 64, seed=0, epoch=1, start=step)))
        yield name, time.perf_counter() - begun


def figures(rows: Sequence[Measured], options: Any) -> list[dict[str, object]]:
    """Returns the rows in the layout of the CSV file."""
    return [
        {
            "files": f"{options.files:,}",
            "size": options.size,
            "batch_size": options.batch_size,
            "contender": row.contender,
            "images_per_second": f"{statistics.median(row.rates):.1f}",
            "ratio": f"{row.ratio:.3f}",
            "rounds": len(row.rates),
            "cpu_milliseconds": f"{row.cost:.2f}",
            "pixel_difference": f"{row.difference:.2f}",
        }
        for row in rows
    ]


def _parser() -> Parser:
    parser = Parser("benchmark input", _DESCRIPTION)
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), help=f"Of {', '.join(CONTENDERS)}.")
    parser.add_argument("--photographs", help="ZIP file with JPEG files to crop, besides scikit-learn's two.")
    parser.add_argument("--files", type=int, default=5_000, help="Number of files.")
    parser.add_argument("--size", type=int, default=224, help="Height and width of the model's input.")
    parser.add_argument("--batch_size", "--batch-size", type=int, default=64, help="Images per batch.")
    parser.add_argument("--batches", type=int, default=12, help="Batches per round.")
    parser.add_argument("--rounds", type=int, default=5, help="Rounds per contender.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="Rows of the epoch that is resumed; 0 for none.")
    parser.add_argument("--output", help="CSV file to add the figures to.")
    parser.add_argument("--markdown", action="store_true", help="Print the CSV file as a table. Nothing is measured.")
    return parser


def command(argv: list[str]) -> int:
    """Parses the options, measures and prints the table."""
    options = _parser().parse(argv)
    output = Path(options.output) if options.output else None
    if options.markdown:
        print(FIGURES.table(FIGURES.read(output or Path(__file__).with_name("input.csv"))))
        return 0
    for name in options.contenders:
        if name not in CONTENDERS:
            raise UsageError(f"--contenders has {name!r}. {did_you_mean(name, CONTENDERS)}")
    options.contenders = ["zoo", *(name for name in CONTENDERS if name in options.contenders and name != "zoo")]
    for name in ("files", "size", "batch_size", "batches", "rounds"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name} is {getattr(options, name)}; expected at least 1. Try --{name} 10.")
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        size = write_files(images, options.files, photographs(options.photographs))
        print(
            f"{options.files:,} JPEG files of {_SHAPE[1]} x {_SHAPE[0]} pixels, {size:,} bytes on average", flush=True
        )
        rows = measure(images, Path(folder), options, skipped)
        alone, pair = measure_workers(images, Path(folder), options)
    print(f"\n{FIGURES.table(figures(rows, options))}\n")
    for row in rows:
        facts = (
            f"{row.cost:.2f} CPU milliseconds per image; pixels differ by {row.difference:.2f} of 255 levels on average"
        )
        print(f"{CONTENDERS[row.contender]}: {facts}")
    for what, (rate, cost) in (("One worker on one core", alone), ("Two workers on two cores", pair)):
        print(f"{what}: {rate:,.0f} images per second, {cost:.2f} CPU milliseconds per image")
    print(f"Two workers: x{pair[0] / alone[0]:.2f}")
    if options.rows:
        for place, seconds in resume_seconds(options.rows):
            print(f"First batch of an epoch of {options.rows:,} rows from {place}: {seconds:.2f} s")
    for contender, why in skipped.items():
        print(f"{CONTENDERS[contender]}: skipped: {why}")
    print("\n".join(NOTES), flush=True)
    if output:
        FIGURES.write(figures(rows, options), output)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
