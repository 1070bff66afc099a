"""Sounds as vectors: how their energy is spread over pitch, as a whole and in four segments.

Decoded by libsndfile: WAV, FLAC, OGG (Vorbis, Opus), MP3, AIFF and what else it reads. A pretrained speech network
was no better on phrases, and worse on letters and drums.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from exemplar.errors import TaskDataError

# Of a sound its beginning is heard: so many seconds, and no more samples than those of 87 seconds at 96 kHz.
MAX_SECONDS, MAX_SAMPLES = 60.0, 2**23
# A header may say anything; nobody records less, and no microphone more.
RATES = (100, 1_000_000)
# Samples that are decoded at once, of all channels together.
AT_ONCE = 2**20
# As speech recognisers have it: a window of 25 ms every 10 ms, bands of equal width on the mel scale.
WINDOW, HOP = 0.025, 0.010
N_BANDS, LOWEST, HIGHEST = 40, 50.0, 8000.0
FRAMES_AT_ONCE = 512
# What is 80 dB softer than the loudest band is silence, and ends that are 45 dB softer are cut off.
FLOOR, QUIET = 80.0, 45.0
N_SEGMENTS = 4

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sound:
    """A decoded sound: mono samples, float32 of shape (n_samples,), and how many there are of a second."""

    samples: Floats
    rate: int


def decode(data: bytes | BinaryIO) -> Sound:
    """Return the beginning of an encoded sound, its channels in one.

    Raises
    ------
    TaskDataError
        If it cannot be read, or has nothing to hear.
    """
    import soundfile  # loads a library of 2 MB, which texts and images do without

    file = io.BytesIO(data) if isinstance(data, bytes) else data
    n_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        with soundfile.SoundFile(file) as opened:
            rate, n_channels = opened.samplerate, opened.channels
            if not RATES[0] <= rate <= RATES[1]:
                raise TaskDataError(f"a sound of {rate} samples a second: expected {RATES[0]} to {RATES[1]}")
            blocks = list(_mono(opened, int(min(MAX_SECONDS * rate, MAX_SAMPLES)), n_channels))
    except TaskDataError:
        raise
    except Exception as error:  # libsndfile's own, and whatever odd headers bring about
        raise TaskDataError(f"not a sound that can be read ({n_bytes} bytes): {error}") from error
    samples = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
    if not len(samples):
        raise TaskDataError(f"a sound without a sample ({n_bytes} bytes)")
    return Sound(samples, rate)


def _mono(opened: object, n_samples: int, n_channels: int) -> Iterator[Floats]:
    """Yield the first samples, the mean of all channels; what is no number is silence."""
    left = n_samples
    while left > 0:
        block = opened.read(min(left, max(AT_ONCE // n_channels, 1)), dtype="float32", always_2d=True)  # type: ignore[attr-defined]
        if not len(block):
            return
        left -= len(block)
        yield np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0).mean(axis=1, dtype=np.float32)


class LogMel:
    """Log-mel statistics: of 40 bands the mean and the spread over time, and the mean in each of four segments.

    Loudness is taken out, and silence at either end.

    References
    ----------
    Davis & Mermelstein (1980), "Comparison of parametric representations for monosyllabic word recognition".
    """

    name = "logmel"
    identity = f"logmel-{N_BANDS}-{N_SEGMENTS}-1"
    kinds: tuple[str, ...] = ("sound",)
    n_features = (2 + N_SEGMENTS) * N_BANDS
    batch_size = 16
    about = "log-mel statistics, whole and in four segments; the first minute of a sound"

    def transform(self, values: Sequence[Sound]) -> Floats:
        """Return vectors, shape (n_sounds, n_features); zeros for silence."""
        return (
            np.stack([_vector(sound) for sound in values]) if values else np.empty((0, self.n_features), np.float32)
        )


def _vector(sound: Sound) -> Floats:
    bands = _heard(_log_mel(sound))
    if not len(bands):
        return np.zeros(LogMel.n_features, np.float32)
    bands = bands - bands.mean()
    segments = [some.mean(axis=0) for some in np.array_split(_at_least(bands, N_SEGMENTS), N_SEGMENTS)]
    # The segments together weigh as much as the whole.
    parts = [bands.mean(axis=0), bands.std(axis=0), *(segment / np.sqrt(N_SEGMENTS) for segment in segments)]
    return np.concatenate(parts).astype(np.float32)


def _at_least(bands: Floats, n: int) -> Floats:
    """Return a sound of at least n frames: those of a short one, several times each."""
    return np.repeat(bands, -(-n // len(bands)), axis=0)


def _heard(bands: Floats) -> Floats:
    """Return the frames from the first loud one to the last, none of a silent sound."""
    loudness = bands.max(axis=1)
    loud = np.flatnonzero(loudness > max(loudness.max() - QUIET, -FLOOR))
    return bands[loud[0] : loud[-1] + 1] if len(loud) else bands[:0]


def _log_mel(sound: Sound) -> Floats:
    """Return decibels below the loudest band of all, shape (n_frames, N_BANDS); -FLOOR for silence."""
    window, hop = max(int(WINDOW * sound.rate), 2), max(int(HOP * sound.rate), 1)
    largest = np.abs(sound.samples).max(initial=0)
    samples = sound.samples / (largest or 1)
    samples = np.pad(samples, (0, max(window - len(samples), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    filters, taper = _filters(sound.rate, window), np.hanning(window + 2)[1:-1].astype(np.float32)
    power = [
        np.abs(np.fft.rfft(frames[at : at + FRAMES_AT_ONCE] * taper, axis=1)) ** 2 @ filters
        for at in range(0, len(frames), FRAMES_AT_ONCE)
    ]
    energy = np.concatenate(power)
    loudest = energy.max()
    if not loudest > 0:
        return np.full(energy.shape, -FLOOR, np.float32)
    decibels = 10 * np.log10(np.maximum(energy / loudest, 10 ** (-FLOOR / 10)))
    return np.asarray(decibels, np.float32)


@lru_cache(16)
def _filters(rate: int, window: int) -> NDArray[np.float64]:
    """Return triangular filters of equal width in mel, shape (n_frequencies, N_BANDS)."""
    hertz = np.fft.rfftfreq(window, 1 / rate)
    edges = _hertz(np.linspace(_mel(LOWEST), _mel(HIGHEST), N_BANDS + 2))
    # A window of few frequencies must miss no band between two of them.
    width = np.maximum(np.diff(edges), hertz[1])
    rising = (hertz[:, None] - (edges[1:-1] - width[:-1])) / width[:-1]
    falling = ((edges[1:-1] + width[1:]) - hertz[:, None]) / width[1:]
    return np.asarray(np.maximum(0, np.minimum(rising, falling)), np.float64)


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return 700 * (10 ** (mel / 2595) - 1)
