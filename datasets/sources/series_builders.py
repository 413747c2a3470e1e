"""Builders for TensorFlow Datasets, for labelled series that it lacks. Importing this module registers them there."""

from __future__ import annotations

import io
import tarfile
import wave
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from zoo.datasets.sources.builders import Declared, Example

_RATE = 8_000
_FRAME, _STEP, _FFT = 200, 80, 256
_BANDS = 20
_QUIETEST = 1e-7
"""Energy below which a band counts as silent; the samples lie between -1 and 1."""


class SpokenDigitFrames(Declared):
    """2,500 recordings of English digits by five speakers, as frames: which digit is it?

    Each step is a frame of 25 ms, every 10 ms: the logarithms of the energies in 20 mel bands of 0 to 4 kHz. The split is
    that of the source: recordings 0 to 4 of every digit and speaker are the test split; 5 to 9 are the validation split.
    Source: Jackson and others, Free Spoken Digit Dataset, 2020, version 1.0.9, doi:10.5281/zenodo.1342401.
    """

    FILES = ("free-spoken-digit-dataset-1.0.9.tar.gz",)
    HOME = "https://github.com/Jakobovski/free-spoken-digit-dataset"
    tasks = ("series_classification",)
    keys: ClassVar = {"series": "series", "label": "label"}
    facts: ClassVar = {"channels": [f"mel band {n}" for n in range(1, _BANDS + 1)], "steps_per_second": 100}

    def features(self) -> dict[str, Any]:
        """See the base."""
        return {
            "series": tfds.features.Tensor(shape=(None, _BANDS), dtype=np.float32),
            "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
            "speaker": tfds.features.Text(),
        }

    def rows(self, folder: Any) -> Iterator[tuple[str, Example]]:
        """See the base."""
        with tarfile.open(self.original(folder, *self.FILES)) as archive:
            found = {member.name: member for member in archive if member.name.endswith(".wav")}
            for name in sorted(found):
                digit, speaker, number = name.rpartition("/")[2].removesuffix(".wav").split("_")
                with archive.extractfile(found[name]) as file, wave.open(io.BytesIO(file.read())) as recording:  # type: ignore[union-attr]
                    samples = np.frombuffer(recording.readframes(recording.getnframes()), "<i2") / 32_768
                split = "test" if int(number) < 5 else "validation" if int(number) < 10 else "train"
                yield split, {"series": mel_frames(samples), "label": digit, "speaker": speaker}


def mel_frames(samples: np.ndarray) -> np.ndarray:
    """Returns the logarithms of the energies in mel bands, float32 (frames, 20), of samples at 8 kHz between -1 and 1.

    Example:
        >>> mel_frames(np.zeros(8_000)).shape
        (98, 20)
    """
    samples = np.pad(samples, (0, max(0, _FRAME - len(samples))))
    starts = np.arange(0, len(samples) - _FRAME + 1, _STEP)
    frames = samples[starts[:, np.newaxis] + np.arange(_FRAME)] * np.hanning(_FRAME)
    power = np.abs(np.fft.rfft(frames, _FFT)) ** 2 / _FFT
    return np.log(power @ _filters().T + _QUIETEST).astype(np.float32)


def _filters() -> np.ndarray:
    """Returns triangular filters whose centres are spread evenly on the mel scale, (bands, frequencies)."""
    mels = np.linspace(0, 2_595 * np.log10(1 + _RATE / 2 / 700), _BANDS + 2)
    edges = 700 * (10 ** (mels / 2_595) - 1)
    frequencies = np.arange(_FFT // 2 + 1) * _RATE / _FFT
    low, center, high = (edges[i : i + _BANDS, np.newaxis] for i in range(3))
    return np.maximum(0, np.minimum((frequencies - low) / (center - low), (high - frequencies) / (high - center)))
