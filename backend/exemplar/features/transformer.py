"""Any encoder of texts or pictures as ONNX, out of a folder: a sentence transformer, say, or a vision transformer.

fastembed (the extra ``[transformer]``) reads tokenizer and preprocessor, runs the model and pools what it says; on
a GPU where onnxruntime finds one. Nothing is downloaded: a name of the Hugging Face hub means its local cache.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.errors import InputError
from exemplar.features.images.picture import Picture
from exemplar.features.texts.beginning import each_once
from exemplar.recipes import TRANSFORMER

logger = logging.getLogger(__name__)

NO_LOADER = "its loader is not installed: pip install 'label-studio-exemplar[transformer]'"
# Where exporters put the graph, the most exact first.
ONNX = (
    "model.onnx",
    "onnx/model.onnx",
    "model_optimized.onnx",
    "onnx/model_quantized.onnx",
    "model_quantized.onnx",
)
# Outputs that are one vector a value already, as exporters call them. What BERT pools of a text is none.
POOLED_TEXT, POOLED_PICTURE = ("sentence_embedding", "text_embeds"), ("image_embeds", "pooler_output")
POOLING = "1_Pooling/config.json"
# What else a sentence transformer may do with pooled vectors is in those graphs alone that pool.
KNOWN_LAYERS = {"Transformer", "Pooling", "Normalize"}
THREADS, BATCH = 1, 32


class Transformer:
    """What sees values as an ONNX model in a folder does; the folder says whether these are texts or pictures.

    Raises
    ------
    InputError
        If the folder lacks what a model is made of, or fastembed is missing.
    """

    batch_size = BATCH

    def __init__(self, name: str) -> None:
        folder = _folder(name.removeprefix(TRANSFORMER))
        path = next((folder / one for one in ONNX if (folder / one).is_file()), None)
        if path is None:
            raise InputError(f"{folder} has none of {', '.join(ONNX)}")
        self._is_text = (folder / "tokenizer.json").is_file()
        output, shape = _output(path, POOLED_TEXT if self._is_text else POOLED_PICTURE)
        self.name = name
        self.identity = f"transformer-{_digest(folder, path)}-1"
        self.about = f"the model in {folder}"
        self.kinds: tuple[str, ...] = ("text", "html", "dialogue") if self._is_text else ("image",)
        load = _texts if self._is_text else _pictures
        self._embed = load(self.identity, folder, path, output, shape)
        found = self._of_texts(["a"]) if self._is_text else self._of_pictures([np.zeros((8, 8, 3), np.uint8)])
        self.n_features = found.shape[1]

    def transform(self, values: Sequence[Any]) -> NDArray[np.float32]:
        """Return vectors of unit length, shape (n_values, n_features); zeros for an empty text."""
        if self._is_text:
            return each_once(values, self._of_texts, self.n_features)
        pictures: Sequence[Picture] = values
        return self._of_pictures([picture.rgb for picture in pictures])

    def _of_texts(self, texts: list[str]) -> NDArray[np.float32]:
        return np.asarray(self._embed(texts), np.float32)

    def _of_pictures(self, pixels: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        from PIL import Image

        return np.asarray(self._embed([Image.fromarray(one) for one in pixels]), np.float32)


def _folder(where: str) -> Path:
    """Return the folder of a model: a path, or what the local cache of the hub has under a name."""
    if where.startswith(("/", ".", "~")):
        folder = Path(where).expanduser()
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder")
        return folder
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise InputError(NO_LOADER) from error
    try:
        return Path(snapshot_download(where, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise InputError(
            f"{where} is not in the local cache of the Hugging Face hub: expected a folder, as /models/minilm, or "
            f"the name of a model after `hf download {where}`"
        ) from error


def _digest(folder: Path, path: Path) -> str:
    """Return the digest of what decides a model's vectors: its graph, weights beside it, and what configures it."""
    beside = [one for one in path.parent.glob("*onnx*") if one.suffix not in (".onnx", ".json") and one.is_file()]
    digest = hashlib.sha256()
    for one in [path, *sorted(beside), *sorted(folder.rglob("*.json"))]:
        with one.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _output(path: Path, pooled: Sequence[str]) -> tuple[str, Sequence[Any]]:
    """Return the name and shape of the output that is taken: one that is pooled already, or else the first."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("onnxruntime is not installed") from error
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    outputs = {output.name: output.shape for output in session.get_outputs()}
    name = next((name for name in pooled if name in outputs), next(iter(outputs)))
    return name, outputs[name]


def _pooling(folder: Path) -> str:
    """Return how the vectors of a text's tokens become one, as sentence-transformers writes it down."""
    said = _read(folder / POOLING, dict)
    if said.get("pooling_mode_cls_token"):
        return "CLS"
    return "LAST_TOKEN" if said.get("pooling_mode_lasttoken") else "MEAN"


def _name_left_out(folder: Path) -> None:
    """Say which layers behind the pooling are not there, where that is done here."""
    modules = [one for one in _read(folder / "modules.json", list) if isinstance(one, dict)]
    layers = {str(one.get("type")).rpartition(".")[2] for one in modules} - KNOWN_LAYERS
    if layers:
        logger.warning("%s: its %s is in no graph, and is left out", folder, " and its ".join(sorted(layers)))


def _read(path: Path, kind: Callable[[], Any]) -> Any:
    """Return what a file of JSON says; nothing where there is none, or it says something else."""
    with suppress(OSError, ValueError):
        said = json.loads(path.read_text())
        if isinstance(said, type(kind())):
            return said
    return kind()


def _texts(identity: str, folder: Path, path: Path, output: str, shape: Sequence[Any]) -> Any:
    try:
        from fastembed import TextEmbedding
        from fastembed.common.model_description import ModelSource, PoolingType
    except ImportError as error:
        raise InputError(NO_LOADER) from error
    pooling = PoolingType.DISABLED
    if len(shape) == 3:
        pooling = PoolingType(_pooling(folder))
        _name_left_out(folder)
    with suppress(ValueError):  # it is known already: the same files by another path
        TextEmbedding.add_custom_model(
            model=identity,
            pooling=pooling,
            normalization=True,
            sources=ModelSource(url=folder.as_uri()),
            dim=1,  # is not looked at
            model_file=str(path.relative_to(folder)),
            output_name=output,
        )
    model = TextEmbedding(identity, str(folder), threads=THREADS, specific_model_path=str(folder))
    return lambda texts: list(model.embed(texts, batch_size=BATCH))


def _pictures(identity: str, folder: Path, path: Path, output: str, shape: Sequence[Any]) -> Any:
    try:
        from fastembed.common.model_description import DenseModelDescription, ModelSource
        from fastembed.image.onnx_embedding import OnnxImageEmbedding
    except ImportError as error:
        raise InputError(NO_LOADER) from error
    description = DenseModelDescription(
        model=identity,
        sources=ModelSource(url=folder.as_uri()),
        model_file=str(path.relative_to(folder)),
        description="",
        license="",
        size_in_GB=0.0,
        dim=1,
    )

    class Local(OnnxImageEmbedding):
        ONNX_OUTPUT_NAMES = [output]  # noqa: RUF012

        @classmethod
        def _list_supported_models(cls) -> list[DenseModelDescription]:
            return [description]

    model = Local(identity, str(folder), threads=THREADS, specific_model_path=str(folder))
    # Of a transformer that says something of each part of a picture, the first stands for all.
    n_first = shape[-1] if len(shape) == 3 else None
    return lambda pictures: [_of_length_1(vector[:n_first]) for vector in model.embed(pictures, batch_size=BATCH)]


def _of_length_1(vector: NDArray[Any]) -> NDArray[Any]:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
