"""Sounds: what is read, what is left out with its reason, and vectors that tell one from the other."""

import io
from typing import Any

import numpy as np
import pytest
import soundfile

from exemplar.errors import TaskDataError
from exemplar.features.sounds import MAX_SAMPLES, MAX_SECONDS, LogMel, Sound, decode

RATE = 16_000
FORMATS = [
    {"format": "WAV"},
    {"format": "WAV", "subtype": "FLOAT"},
    {"format": "WAV", "subtype": "ULAW"},
    {"format": "FLAC"},
    {"format": "OGG", "subtype": "VORBIS"},
    {"format": "OGG", "subtype": "OPUS"},
    {"format": "MP3"},
    {"format": "AIFF"},
]


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(scale=0.003, size=len(time))
    return 0.4 * np.sin(2 * np.pi * hertz * time) * np.exp(-3 * time / seconds) + noise


def written(samples: np.ndarray, rate: int = RATE, **options: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", **options})
    return file.getvalue()


def vector(sound: bytes | Sound) -> np.ndarray:
    found = LogMel().transform([decode(sound) if isinstance(sound, bytes) else sound])[0]
    assert found.shape == (LogMel.n_features,) and np.isfinite(found).all()
    return found


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other))


# -- what is heard -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", FORMATS, ids=lambda options: "-".join(options.values()))
def test_every_format_of_a_sound_gives_about_the_same_vector(options: dict[str, str]) -> None:
    low, high = tone(300), tone(2500)
    heard = vector(written(low, **options))
    assert apart(heard, vector(written(low))) < 0.3 * apart(heard, vector(written(high)))


def test_sounds_lie_by_what_is_heard_whatever_their_loudness_rate_and_silence() -> None:
    low = vector(written(tone(300)))
    others = apart(low, vector(written(tone(2500))))
    assert apart(low, vector(written(0.1 * tone(300)))) < 0.05 * others
    assert apart(low, vector(written(tone(300, rate=44_100), 44_100))) < 0.2 * others
    silence = np.zeros(RATE)
    assert apart(low, vector(written(np.concatenate([silence, tone(300), silence])))) < 0.2 * others


def test_segments_tell_a_rising_tone_from_a_falling_one() -> None:
    time = np.arange(RATE) / RATE
    rising = np.sin(2 * np.pi * (300 * time + 1500 * time**2))
    same = apart(vector(written(rising)), vector(written(rising + 0.001)))
    assert apart(vector(written(rising)), vector(written(rising[::-1]))) > 10 * same


def test_a_vector_depends_on_no_batch() -> None:
    sounds = [decode(written(tone(200 + 100 * i, seconds=0.2 + 0.3 * i))) for i in range(5)]
    together = LogMel().transform(sounds)
    assert np.array_equal(together, np.stack([vector(sound) for sound in sounds]))
    assert LogMel().transform([]).shape == (0, LogMel.n_features)


# -- what is odd -------------------------------------------------------------------------------------------


def test_a_long_sound_is_cut() -> None:
    sound = decode(written(np.zeros(int(RATE * (MAX_SECONDS + 30)), np.float32), format="FLAC"))
    assert len(sound.samples) == RATE * MAX_SECONDS


def test_a_bomb_costs_no_more_than_what_is_heard_of_it() -> None:
    import tracemalloc

    hour = np.zeros((3600 * 4000, 8), np.int16)
    bomb = written(hour, 4000, format="FLAC")
    assert len(bomb) < hour.nbytes / 500
    del hour
    tracemalloc.start()
    assert len(decode(bomb).samples) == 4000 * MAX_SECONDS
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 2**20


def test_many_channels_are_one() -> None:
    eight = np.stack([tone(300, seed=channel) for channel in range(8)], axis=1)
    assert apart(vector(written(eight)), vector(written(eight.mean(axis=1)))) < 0.1
    many = decode(written(np.zeros((10, 255), np.int16)))
    assert many.samples.shape == (10,)


def test_silence_has_no_vector_and_disturbs_no_other() -> None:
    found = LogMel().transform([decode(written(np.zeros(RATE))), decode(written(tone(300)))])
    assert not found[0].any() and found[1].any()


@pytest.mark.parametrize(
    "samples", [[0.5], [0.0], [0.5, -0.5], np.full(100, 0.25)], ids=["one", "zero", "two", "dc"]
)
def test_the_shortest_sounds_have_finite_vectors(samples: Any) -> None:
    vector(written(np.asarray(samples, np.float64)))


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e38, -1e38, 1e-38])
def test_samples_that_are_no_sound_give_finite_vectors(odd: float) -> None:
    samples = tone(300).astype(np.float32)
    samples[100:200] = odd
    vector(written(samples, subtype="FLOAT"))
    vector(written(np.full(RATE, odd, np.float32), subtype="FLOAT"))
    vector(written(np.full(RATE, 1e300), subtype="DOUBLE"))


@pytest.mark.parametrize("options", FORMATS, ids=lambda options: "-".join(options.values()))
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_sound_is_read_as_far_as_it_goes_or_left_out(options: dict[str, str], share: float) -> None:
    whole = written(tone(300, seconds=3), **options)
    try:
        sound = decode(whole[: int(share * len(whole))])
    except TaskDataError as error:
        assert "sound" in str(error)
    else:
        assert 0 < len(sound.samples) <= 3.2 * 48_000
        vector(sound)


@pytest.mark.parametrize("seed", range(20))
def test_spoilt_bytes_are_read_or_left_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = bytearray(written(tone(300), **FORMATS[seed % len(FORMATS)]))
    for at in rng.integers(len(whole) if seed % 2 else 60, size=20):
        whole[at] = rng.integers(256)
    try:
        vector(bytes(whole))
    except TaskDataError as error:
        assert "sound" in str(error)


@pytest.mark.parametrize("data", [b"", b"RIFF", b"not a sound", b"\x89PNG\r\n\x1a\n", b"<svg/>", bytes(1000)])
def test_what_is_no_sound_is_left_out_with_its_size(data: bytes) -> None:
    with pytest.raises(TaskDataError, match=rf"\({len(data)} bytes\)"):
        decode(data)


def test_a_sound_without_a_sample_is_left_out() -> None:
    with pytest.raises(TaskDataError, match="without a sample"):
        decode(written(np.empty(0)))


@pytest.mark.parametrize("rate", [1, 99, 1_000_001, 2_000_000_000])
def test_a_rate_that_nobody_records_at_is_left_out(rate: int) -> None:
    with pytest.raises(TaskDataError, match=f"{rate} samples a second"):
        decode(written(tone(300), rate))


@pytest.mark.parametrize("rate", [100, 101, 8000, 11_025, 44_100, 192_000, 1_000_000])
def test_odd_rates_have_vectors(rate: int) -> None:
    found = vector(written(np.random.default_rng(0).normal(size=3000), rate))
    assert found.any()


def test_no_sound_has_more_samples_than_memory_bears() -> None:
    sound = decode(written(np.zeros(MAX_SAMPLES + 5, np.int16), 1_000_000))
    assert len(sound.samples) == MAX_SAMPLES
