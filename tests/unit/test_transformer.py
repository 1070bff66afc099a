"""Models in folders: what sees texts and pictures as their files say, and what is said of those that are none."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from exemplar import recipes
from exemplar.commands.features import show_features
from exemplar.errors import EmbedderError
from exemplar.features import Embedder, choose, registry
from exemplar.features.images.picture import Picture
from exemplar.recipes import read_recipe, read_recipes, written
from exemplar.settings import Settings
from small_models import TABLE, WORDS, image_model, text_model, write

pytest.importorskip("onnxruntime")
pytest.importorskip("fastembed")


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_made", {})
    monkeypatch.setattr(registry, "_out_of_order", {})
    yield


def made(name: str) -> Embedder:
    one = registry.embedder(name)
    assert isinstance(one, Embedder)
    return one


def unit(X: Any) -> np.ndarray:
    X = np.asarray(X, np.float32)
    return np.asarray(X / np.linalg.norm(X, axis=-1, keepdims=True))


TEXTS = ["cat dog", "tram", "dog cat bus", "", "nothing known"]


@pytest.mark.parametrize(
    ("pooling", "rows"),
    [
        ({}, lambda tokens: tokens.mean(axis=0)),
        ({"pooling_mode_mean_tokens": True}, lambda tokens: tokens.mean(axis=0)),
        ({"pooling_mode_cls_token": True}, lambda tokens: tokens[0]),
        ({"pooling_mode_lasttoken": True}, lambda tokens: tokens[-1]),
    ],
)
def test_texts_are_seen_as_the_folder_says(
    pooling: dict[str, bool], rows: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    one = made(text_model(tmp_path, **pooling))
    assert (one.kinds, one.n_features) == (("text", "html", "dialogue"), 4)
    X = one.transform(TEXTS)
    for text, x in zip(TEXTS, X, strict=True):
        ids = [WORDS.index(word) if word in WORDS else 1 for word in text.split()]
        expected = unit(rows(TABLE[ids])) if ids else np.zeros(4)
        np.testing.assert_allclose(x, expected, atol=1e-6)
        np.testing.assert_allclose(one.transform([text])[0], x, atol=1e-6)  # whatever it is padded to


def test_a_model_that_pools_by_itself_is_taken_at_its_word(tmp_path: Path) -> None:
    one = made(text_model(tmp_path, pooled=True, file="onnx/model.onnx", pooling_mode_cls_token=True))
    np.testing.assert_allclose(one.transform(["cat tram"])[0], unit(TABLE[2] + TABLE[4]), atol=1e-6)


def test_a_layer_that_is_in_no_graph_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = text_model(tmp_path)
    layers = ["models.Transformer", "models.Pooling", "models.Dense", "models.Normalize"]
    write(tmp_path / "modules.json", [{"type": f"sentence_transformers.{layer}"} for layer in layers])
    assert made(name).n_features == 4
    assert f"{tmp_path}: its Dense is in no graph, and is left out" in caplog.text


@pytest.mark.parametrize("odd", ["none", "[]", "{}", "[1]"])
def test_odd_files_beside_a_model_do_no_harm(odd: str, tmp_path: Path) -> None:
    name = text_model(tmp_path)
    (tmp_path / "onnx").mkdir()
    write(tmp_path / "1_Pooling" / "config.json", [])
    (tmp_path / "modules.json").write_text(odd)
    assert made(name).n_features == 4


def test_a_text_longer_than_the_model_reads_is_cut(tmp_path: Path) -> None:
    X = made(text_model(tmp_path)).transform(["cat " * 16 + "bus " * 500, "cat " * 16, "\ud83d cat"])
    np.testing.assert_allclose(X[0], X[1], atol=1e-6)
    assert np.isfinite(X).all()


@pytest.mark.parametrize("parts", [False, True])
def test_pictures_are_seen_as_the_folder_says(parts: bool, tmp_path: Path) -> None:
    one = made(image_model(tmp_path, parts=parts))
    assert (one.kinds, one.n_features) == (("image",), 3)
    red, blue = np.zeros((9, 30, 3), np.uint8), np.zeros((40, 8, 3), np.uint8)
    red[..., 0] = blue[..., 2] = 255
    X = one.transform([Picture(red), Picture(blue)])
    np.testing.assert_allclose(X, unit([[1, -1, -1], [-1, -1, 1]]), atol=1e-6)
    assert choose("image", read_recipe(f"transformer:{tmp_path}")).embedders == (one,)


def test_the_identity_is_that_of_the_files_wherever_they_lie(tmp_path: Path) -> None:
    one = made(text_model(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "README.md").write_text("no part of it")
    assert made(f"transformer:{tmp_path / 'b'}").identity == one.identity
    for name, content in (("config.json", '{"pad_token_id": 1}'), ("model.onnx_data", "weights beside")):
        (tmp_path / "b" / name).write_text(content)
        registry._made.clear()
        other = made(f"transformer:{tmp_path / 'b'}").identity
        assert other != one.identity
        one = made(f"transformer:{tmp_path / 'b'}")
    write(tmp_path / "b" / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True})
    registry._made.clear()
    assert made(f"transformer:{tmp_path / 'b'}").identity != one.identity


@pytest.mark.parametrize("gone", ["model.onnx", "tokenizer.json", "tokenizer_config.json", "all"])
def test_what_a_folder_lacks_is_named_and_the_default_serves(gone: str, tmp_path: Path) -> None:
    name = text_model(tmp_path / "m")
    if gone == "all":
        shutil.rmtree(tmp_path / "m")
    else:
        (tmp_path / "m" / gone).unlink()
    choice = choose("text", read_recipe(name))
    assert choice.is_default
    assert name in choice.why
    assert {"all": "is no folder", "model.onnx": "has none of model.onnx"}.get(
        gone, str(tmp_path / "m")
    ) in choice.why


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    name = text_model(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"none")
    with pytest.raises(EmbedderError, match=r"INVALID_PROTOBUF|InvalidProtobuf"):
        registry.embedder(name)


def test_without_the_extra_a_sentence_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = text_model(tmp_path)
    monkeypatch.setitem(sys.modules, "fastembed", None)
    with pytest.raises(EmbedderError, match=r"pip install 'label-studio-exemplar\[transformer\]'"):
        registry.embedder(name)


def test_a_name_of_the_hub_means_its_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EmbedderError, match="hf download somebody/small"):
        registry.embedder("transformer:somebody/small")
    repository, commit = tmp_path / "models--somebody--small", "0" * 40
    text_model(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    registry._out_of_order.clear()
    one = made("transformer:somebody/small")
    assert one.transform(["cat"]).shape == (1, 4)


def test_the_command_lists_a_model_that_is_wanted(tmp_path: Path) -> None:
    with Path("/dev/null").open("w") as nowhere:
        console = Console(width=300, record=True, file=nowhere)
        show_features(Settings(features=f"text: {text_model(tmp_path)}"), None, console)
    told = console.export_text()
    assert f"the model in {tmp_path}" in told
    assert f"wanted: transformer:{tmp_path}" in told


@pytest.mark.parametrize(
    ("said", "spelt"),
    [
        ("transformer:/models/mini-LM v2", "transformer:/models/mini-LM v2"),
        ("text :2* transformer:/m/x+.5*ngrams ; image: transformer:~/v", None),
        ("use + transformer:org/name", "use + transformer:org/name"),
    ],
)
def test_models_stand_in_recipes_by_where_they_lie(said: str, spelt: str | None) -> None:
    spelt = spelt or "image: transformer:~/v; text: 2*transformer:/m/x + 0.5*ngrams"
    assert written(read_recipes(said)) == spelt
    assert written(read_recipes(spelt)) == spelt


@pytest.mark.parametrize("said", ["transformer:", "transformer: ", "transformer", "a: transformer:"])
def test_a_model_without_a_place_is_no_recipe(said: str) -> None:
    with pytest.raises(ValueError, match=r"embedders|a name before"):
        read_recipes(said)
    assert "transformer" not in recipes.names()
