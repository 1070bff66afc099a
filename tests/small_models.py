"""Small ONNX models in folders, with tokenizer and preprocessor as exporters write them; made in no time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
WORDS = ["[PAD]", "[UNK]", "cat", "dog", "tram", "bus"]
# By token: animals point one way, vehicles another; the unknown one somewhere else.
TABLE = np.float32([[9, 9, 9, 9], [0, 0, 1, 0], [1, 0.1, 0, 0], [1, -0.1, 0, 0], [0, 0.1, 0, 1], [0, -0.1, 0, 1]])


def graph(nodes: list[Any], inputs: list[Any], outputs: list[Any], **constants: np.ndarray) -> Any:
    held = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    made = onnx.helper.make_graph(nodes, "small", inputs, outputs, held)
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def value(name: str, kind: Any, shape: list[Any]) -> Any:
    return onnx.helper.make_tensor_value_info(name, kind, shape)


def text_model(folder: Path, *, pooled: bool = False, file: str = "model.onnx", **pooling: bool) -> str:
    """Write a model that looks tokens up; a pooled one says their sum."""
    tokenizers = pytest.importorskip("tokenizers")
    node, ints = onnx.helper.make_node, onnx.TensorProto.INT64
    nodes = [node("Gather", ["table", "input_ids"], ["last_hidden_state"])]
    outputs = [value("last_hidden_state", onnx.TensorProto.FLOAT, ["n", "length", 4])]
    constants = {"table": TABLE}
    if pooled:
        nodes.append(node("ReduceSum", ["last_hidden_state", "axis"], ["sentence_embedding"], keepdims=0))
        outputs.append(value("sentence_embedding", onnx.TensorProto.FLOAT, ["n", 4]))
        constants["axis"] = np.array([1])
    inputs = [value("input_ids", ints, ["n", "length"]), value("attention_mask", ints, ["n", "length"])]
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(graph(nodes, inputs, outputs, **constants), folder / file)
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    write(folder / "config.json", {"pad_token_id": 0})
    write(folder / "tokenizer_config.json", {"model_max_length": 16, "pad_token": "[PAD]"})
    write(folder / "special_tokens_map.json", {"pad_token": "[PAD]", "unk_token": "[UNK]"})
    if pooling:
        write(folder / "1_Pooling" / "config.json", pooling)
    return f"transformer:{folder}"


def image_model(folder: Path, *, parts: bool = False) -> str:
    """Write a model that says the mean colour; one in parts says that of all, and then of each row."""
    node, floats = onnx.helper.make_node, onnx.TensorProto.FLOAT
    nodes = [node("ReduceMean", ["pixel_values"], ["mean"], axes=[2, 3], keepdims=0)]
    name, shape = "image_embeds", ["n", 3]
    if parts:
        name, shape = "last_hidden_state", ["n", 9, 3]
        nodes += [
            node("Unsqueeze", ["mean", "one"], ["first"]),
            node("ReduceMean", ["pixel_values"], ["rows"], axes=[3], keepdims=0),
            node("Transpose", ["rows"], ["others"], perm=[0, 2, 1]),
            node("Concat", ["first", "others"], [name], axis=1),
        ]
    else:
        nodes.append(node("Identity", ["mean"], [name]))
    inputs = [value("pixel_values", floats, ["n", 3, 8, 8])]
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(graph(nodes, inputs, [value(name, floats, shape)], one=np.array([1])), folder / "model.onnx")
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 8},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 8, "width": 8},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    write(folder / "preprocessor_config.json", processor)
    return f"transformer:{folder}"


def write(path: Path, said: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(said))
