"""What tells that two values are the same but for little, whatever is made of them for learning.

Vectors do not tell: short texts about one thing, or two digits of one hand, lie as near to each other as a picture
to its own smaller copy. A text's keys are equal for texts that are the same once case, spaces and punctuation are
folded, and numbers masked. A picture's print is a coarse copy of it, which resizing and recompressing hardly move.
"""

import re
import unicodedata
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exemplar.engine import group_by_keys, group_by_prints

# Longer texts are compared by so many of their first characters, and by their lengths.
MAX_CHARACTERS = 100_000
# Numbers are masked where enough is said beside them: so many letters, words, and words for each number.
MIN_LETTERS, MIN_WORDS, WORDS_PER_NUMBER = 14, 4, 2
# A letter of a script without spaces says as much as so many others, and words are about so long.
LETTERS_OF_AN_IDEOGRAPH, LETTERS_OF_A_WORD = 3, 5

_NUMBER = re.compile(r"(?<![\w])[-+−]?\d+(?:[.,:/'’-]\d+)*|\d+(?:[.,:/'’-]\d+)*")
_EMOTICON = re.compile(r"[:;]['’]?-?([)\](\[])")
_VARIANTS = range(0xFE00, 0xFE10)
# Punctuation that says something: C# is not C, nor 5 % 5.
_SAYING = "#%&*@/\\§"

LUMA_SIDE, CHROMA_SIDE = 12, 4
N_LUMA = LUMA_SIDE**2
# How far the prints of one picture lie apart, as shares of black to white: the root mean square of their
# brightness, and the place where it differs most. More contrast, more difference; hardly any, hardly any. Found on
# drawings, clothes and digits, resized and recompressed: these are found, and no two pictures of different classes.
RMS, RMS_OF_CONTRAST, ALL_OF_CONTRAST = 0.008, 0.045, 0.35
LARGEST, LARGEST_OF_CONTRAST = 0.02, 0.45
COLOR = 0.04


class HasPixels(Protocol):
    """A picture: ``rgb``, uint8 of shape (height, width, 3)."""

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """Its pixels."""


class _Folding(dict[int, str | None]):
    """What becomes of a character: punctuation and spaces part words, symbols stand alone."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        category = unicodedata.category(character)
        folded: str | None = character
        if code in _VARIANTS or category == "Cf":  # they only say how to draw what stands before them
            folded = None
        elif category[0] == "S" or character in _SAYING:
            folded = f" {character} "
        elif category[0] in "PZC":
            folded = " "
        self[code] = folded
        return folded


_FOLDING = _Folding()


def text_keys(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Return two keys of each text, shape (n_texts, 2): folded, and with its numbers masked as well.

    Texts with an equal key are the same but for that. Where too little is said beside the numbers, both keys tell
    them apart. A text of spaces alone has none: 0.

    Examples
    --------
    >>> keys = text_keys(["Your order 17 is late", "your order 18 is LATE!", "(Your order 17 is late.)"])
    >>> (keys[0] == keys[2]).tolist(), (keys[0] == keys[1]).tolist()
    ([True, True], [False, True])
    """
    keys = np.zeros((len(texts), 2), np.uint64)
    for row, text in enumerate(texts):
        if text.strip():
            keys[row] = _keys(text)
    return keys


def _keys(text: str) -> tuple[int, int]:
    rest = len(text) if len(text) > MAX_CHARACTERS else 0
    plain = unicodedata.normalize("NFKC", text[:MAX_CHARACTERS]).casefold()
    plain = _EMOTICON.sub(lambda found: " ☺ " if found[1] in ")]" else " ☹ ", plain)
    parts = _NUMBER.split(plain)
    words = [part.translate(_FOLDING).split() for part in parts]
    said = ["".join(some) for some in words]
    numbers = _NUMBER.findall(plain)
    if not numbers and not any(said):
        said = [text.strip()[:MAX_CHARACTERS]]  # punctuation alone is all that is said
    folded = _hash("\1".join(f"{a}\1{b}" for a, b in zip(said, [*numbers, ""], strict=True)), rest)
    if not numbers or not _says_enough(words, len(numbers)):
        return folded, folded
    return folded, _hash("\1\1".join(said), rest)


def _says_enough(words: list[list[str]], n_numbers: int) -> bool:
    """Return whether a text says so much beside its numbers that another number makes it no other text."""
    letters = [letter for some in words for word in some for letter in word if letter.isalpha()]
    n_letters = sum(LETTERS_OF_AN_IDEOGRAPH if letter >= "\u0e00" else 1 for letter in letters)
    n_words = max(
        sum(any(map(str.isalpha, word)) for some in words for word in some), n_letters // LETTERS_OF_A_WORD
    )
    return n_letters >= MIN_LETTERS and n_words >= max(MIN_WORDS, WORDS_PER_NUMBER * n_numbers)


def _hash(text: str, rest: int) -> int:
    digest = blake2b(f"{rest}:{text}".encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def same_texts(keys: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Return for each text the first one that is the same but for little, by their keys."""
    return group_by_keys(keys)


class Print:
    """The print of a picture: 12 × 12 values of its luma, 4 × 4 of each chroma, from 0 to 1."""

    name = "print"
    identity = f"print-{LUMA_SIDE}-{CHROMA_SIDE}-1"
    kinds: tuple[str, ...] = ("image",)
    n_features = N_LUMA + 2 * CHROMA_SIDE**2
    batch_size = 64
    about = "what tells one picture in two sizes from two pictures; for near-duplicates, not for learning"

    def transform(self, values: Sequence[HasPixels]) -> NDArray[np.float32]:
        """Return the pictures' prints, shape (n_pictures, n_features)."""
        prints = np.empty((len(values), self.n_features), np.float32)
        for row, picture in zip(prints, values, strict=True):
            row[:] = _print(picture.rgb)
        return prints


def _print(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    planes = Image.fromarray(rgb).convert("YCbCr").split()
    sides = (LUMA_SIDE, CHROMA_SIDE, CHROMA_SIDE)
    # With its wide filter, a picture's smaller copy gives the same.
    small = (
        plane.resize((side, side), Image.Resampling.BICUBIC) for plane, side in zip(planes, sides, strict=True)
    )
    return np.concatenate([np.asarray(plane).ravel() for plane in small]) / 255


def same_pictures(prints: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return for each picture the first one that is the same, of whatever size and compression, by their prints.

    One without a print, zeros alone, is the same as none.
    """
    luma, chroma = prints[:, :N_LUMA], prints[:, N_LUMA:]
    contrast = luma.std(axis=1)
    rms = np.minimum(RMS + RMS_OF_CONTRAST * contrast, ALL_OF_CONTRAST * contrast)

    def same(one: NDArray[np.intp], other: NDArray[np.intp]) -> NDArray[np.bool_]:
        largest = LARGEST + LARGEST_OF_CONTRAST * np.minimum(contrast[one], contrast[other])
        luma_is = np.abs(luma[one] - luma[other]).max(axis=1) <= largest
        chroma_is = np.abs(chroma[one] - chroma[other]).max(axis=1) <= COLOR
        return np.asarray(luma_is & chroma_is, np.bool_)

    leaders = group_by_prints(prints, np.asarray(LUMA_SIDE * rms, np.float32), same)
    return np.where(prints.any(axis=1), leaders, np.arange(len(prints))).astype(np.int32)
