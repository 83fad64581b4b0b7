"""An inference function to a TFLite model or a SavedModel."""

import os
import tempfile
import warnings

import tensorflow as tf

INPUT_NAME = "image"


def write_saved_model(function, folder, image_size, batch_size, output_name, **signatures):
    """Writes a SavedModel whose `serving_default` maps float images to one output.

    Args:
        function: (batch, image_size, image_size, 3) to (batch, classes). A `tf.Module`, if it holds variables.
        folder: Where to write.
        image_size: Pixels.
        batch_size: Images; None for any number.
        output_name: Name of the output in the signature.
        **signatures: Further signatures by name: concrete functions.
    """
    module = tf.Module()
    module.function = function
    spec = tf.TensorSpec((batch_size, image_size, image_size, 3), tf.float32, name=INPUT_NAME)

    @tf.function(input_signature=[spec], autograph=False)
    def serving_default(image):
        return {output_name: function(image)}

    module.serving_default = serving_default
    tf.saved_model.save(module, folder, {"serving_default": serving_default, **signatures})


def to_tflite(function, image_size, batch_size=1, output_name="probabilities", configure=None):
    """Converts a function of images to a TFLite model of builtin ops.

    Args:
        function: As in `write_saved_model`.
        image_size: Pixels.
        batch_size: Images; None for any number.
        output_name: Name of the output in the signature.
        configure: A function that sets options of the `tf.lite.TFLiteConverter`, or None.

    Returns:
        The model's bytes.

    Raises:
        ValueError: If TFLite has no builtin op for something the function computes, naming it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "saved_model")
        write_saved_model(function, path, image_size, batch_size, output_name)
        converter = tf.lite.TFLiteConverter.from_saved_model(path)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if configure is not None:
            configure(converter)
        try:
            with warnings.catch_warnings():
                # The converter calibrates with TensorFlow's own interpreter.
                warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated")
                return converter.convert()
        except Exception as error:
            needed = [line for line in str(error).splitlines() if "op" in line.lower()][:1] or [str(error)[:200]]
            raise ValueError(f"TFLite's builtin ops do not cover the model: {needed[0].strip()}") from error
