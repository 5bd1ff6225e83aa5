"""The formats that a trained model can be exported to: one entry each. No TensorFlow."""

from keras_lm.settings.kinds import Format
from keras_lm.settings.variants import FORMATS, register

__all__ = ["FORMATS"]

register(
    Format(
        "keras",
        "Keras file",
        "is one file with the weights and the tokenizer, which loads here again.",
        file="model.keras",
    )
)
register(
    Format(
        "keras-int8",
        "Keras file with 8-bit weights",
        "is one file, about a quarter as large, which only keras_lm loads.",
        "keras_lm.export.keras_int8:write",
        file="model.keras",
        needs_tensorflow=True,
        measures=True,
    )
)
register(
    Format(
        "safetensors",
        "safetensors",
        "is the plain weights with config.json, and a model in NumPy that runs them.",
        "keras_lm.export.safetensors:write",
        file="model.safetensors",
    )
)
register(
    Format(
        "web",
        "Web page",
        "is a folder for any web server: the model writes in the browser, without Python.",
        "keras_lm.export.web_page:write",
    )
)
register(
    Format(
        "transformers",
        "Transformers",
        "is a folder for Hugging Face transformers, as a GPT-2, Llama, Qwen3 or Arcee model, where "
        "the model is one of these.",
        "keras_lm.export.transformers:write",
    )
)
register(
    Format(
        "onnx",
        "ONNX",
        "runs in ONNX Runtime, in many languages and on many devices.",
        "keras_lm.export.onnx:write",
        file="model.onnx",
        needs=("onnx", "tf2onnx"),
        needs_tensorflow=True,
    )
)
register(
    Format(
        "litert",
        "LiteRT",
        "runs in LiteRT, formerly TensorFlow Lite, on telephones and small devices.",
        "keras_lm.export.litert:write",
        file="model.tflite",
        needs_tensorflow=True,
    )
)
register(
    Format(
        "litert-int8",
        "LiteRT with 8-bit weights",
        "runs where LiteRT does, and is about a quarter as large.",
        "keras_lm.export.litert:write_int8",
        file="model.tflite",
        needs_tensorflow=True,
        measures=True,
    )
)
register(
    Format(
        "saved_model",
        "SavedModel",
        "is a folder for TensorFlow and its serving.",
        "keras_lm.export.saved_model:write",
        needs_tensorflow=True,
    )
)
