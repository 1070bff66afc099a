"""The demo's messages: what customers of a shop write, composed by grammars, with the intent that each has.

Intents share their words: a refund is spoken of by those who wait for one and by those who praise the last. Some
messages are in German, some have slips of the keyboard, and some say more than the one thing that they are about.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from exemplar.demo.dataset import Dataset

N_POOL, N_HELD_OUT = 1500, 300
_SHARE_GERMAN, _SHARE_WITH_SLIPS = 0.12, 0.3
_SHARES = {"begin": 0.3, "before": 0.1, "after": 0.1, "end": 0.25}  # of the messages that have such a part
_WORDS = ("item", "when", "since", "soon", "name")
_SECTION = re.compile(r"\[(.+?)(?:, (de))?\]")
_ONE_OF = re.compile(r"\(([^()]*)\)")
_SLOT = re.compile(r"\{(\w+)\}")

Random = np.random.Generator


def intents() -> tuple[str, ...]:
    """Return the classes."""
    return tuple(name for name, german in _grammars() if not german and name not in (*_SHARES, *_WORDS))


@cache
def texts_and_intents() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return all messages, no two of them alike, and what each is about; the same at each call."""
    random = np.random.default_rng(0)
    composed: dict[str, str] = {}
    while len(composed) < N_POOL + N_HELD_OUT:
        intent = str(random.choice(intents()))
        composed.setdefault(_message(intent, random), intent)
    return tuple(composed), tuple(composed.values())


def index_of(task_data: Mapping[str, object]) -> int:
    """Return which of the messages a task shows.

    Raises
    ------
    ValueError
        If it is none of them.
    """
    text = task_data.get("message")
    try:
        return texts_and_intents()[0].index(str(text))
    except ValueError:
        raise ValueError(f"message={text!r}: expected one of the demo's messages") from None


# ── Composing ────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _grammars() -> Mapping[tuple[str, bool], list[str]]:
    """Return the lines of each section, by its name and whether it is German."""
    grammars: dict[tuple[str, bool], list[str]] = {}
    for line in files("exemplar.demo").joinpath("messages.txt").read_text(encoding="utf-8").splitlines():
        if section := _SECTION.fullmatch(line):
            lines = grammars.setdefault((section[1], bool(section[2])), [])
        elif line and not line.startswith("#"):
            lines.append(line)
    return grammars


def _message(intent: str, random: Random) -> str:
    german = random.random() < _SHARE_GERMAN
    kept = {part: random.random() < share for part, share in _SHARES.items()}
    parts = [_said(part, german, random) for part in ("begin", "before") if kept[part]]
    parts.append(_said(intent, german, random))
    parts += [_said(part, german, random) for part in ("after", "end") if kept[part]]
    text = _punctuated(parts)
    return _with_slips(text, random) if random.random() < _SHARE_WITH_SLIPS else text


def _said(section: str, german: bool, random: Random) -> str:
    """Return a sentence of a grammar: its alternatives chosen, its words filled in."""
    text = str(random.choice(_grammars()[section, german]))
    while _ONE_OF.search(text):
        text = _ONE_OF.sub(lambda found: str(random.choice(found[1].split("|"))), text)
    return _SLOT.sub(lambda found: _word(found[1], german, random), text).strip()


def _word(slot: str, german: bool, random: Random) -> str:
    if slot == "number":
        return str(random.integers(10, 1000))
    return str(random.choice(_grammars()[slot, german and (slot, True) in _grammars()]))


def _punctuated(parts: list[str]) -> str:
    ended = [part if part[-1] in ".,:!?" else f"{part}." for part in parts[:-1]]
    return re.sub(r" +([?.,])", r"\1", " ".join([*ended, parts[-1]]))


def _with_slips(text: str, random: Random) -> str:
    """Return a text as it is typed in haste: one letter in forty swapped, left out or doubled."""
    letters = list(text.lower() if random.random() < 0.5 else text)
    for at in range(len(letters) - 1):
        if letters[at].isalpha() and letters[at + 1].isalpha() and random.random() < 1 / 40:
            match random.integers(3):
                case 0:
                    letters[at], letters[at + 1] = letters[at + 1], letters[at]
                case 1:
                    letters[at] = ""
                case 2:
                    letters[at] *= 2
    return "".join(letters)


# ── The demo's data ──────────────────────────────────────────────────────────────────────────────────────


def dataset() -> Dataset:
    """Return them as the demo's data."""
    texts, truth = texts_and_intents()

    def data(index: int) -> dict[str, str]:
        return {"message": texts[index]}

    return Dataset(
        name="messages",
        title="Messages",
        examples="messages",
        label_config=_label_config(),
        truth=truth,
        n_pool=N_POOL,
        data=data,
        imported=lambda indices: {"json": [data(index) for index in indices]},
        index_of=index_of,
        textbook="TF-IDF",
        textbook_vectors=_term_vectors,
    )


def _label_config() -> str:
    choices = "\n".join(f'    <Choice value="{intent}"/>' for intent in intents())
    return f"""<View>
  <Header value="What is this about?"/>
  <Text name="message" value="$message"/>
  <Choices name="intent" toName="message" choice="single-radio">
{choices}
  </Choices>
</View>
"""


def _term_vectors() -> NDArray[np.float32]:
    texts, _ = texts_and_intents()
    terms = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(texts)
    return np.asarray(TruncatedSVD(128, random_state=0).fit_transform(terms), np.float32)
