"""Frames of recordings, compared with a plain Fourier sum."""

from __future__ import annotations

import numpy as np

from zoo.datasets.sources.series_builders import _filters, mel_frames


def test_frames_equal_a_fourier_sum():
    samples = np.random.default_rng(0).normal(size=500) / 10
    found = mel_frames(samples)
    assert found.shape == (4, 20) and found.dtype == np.float32
    frame = samples[160:360] * np.hanning(200)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(129), np.arange(200)) / 256)
    expected = np.log(_filters() @ (np.abs(waves @ frame) ** 2 / 256) + 1e-7)
    np.testing.assert_allclose(found[2], expected, rtol=1e-5)


def test_a_tone_is_loudest_in_its_band_and_silence_is_finite():
    tone = np.sin(2 * np.pi * 1_000 * np.arange(2_000) / 8_000)
    centers = (np.arange(129) * 8_000 / 256)[_filters().argmax(axis=1)]
    assert (mel_frames(tone).argmax(axis=1) == np.abs(centers - 1_000).argmin()).all()
    np.testing.assert_allclose(mel_frames(np.zeros(50)), np.log(1e-7), rtol=1e-6)
