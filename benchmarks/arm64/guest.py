"""Runs inside the emulation, on Debian's Python with LiteRT and NumPy: python3 guest.py MODEL IMAGE OUTPUTS.

IMAGE is an .npy file, OUTPUTS an .npz file to write: `outputs_0`, ... in the order of the output tensors. It invokes
the model twice and counts the second time; the first invocation packs weights.
"""

import ctypes
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter

_MARK = 0x4D4958  # as in count_instructions.c


def main():
    """Invokes the model twice, the second time between two marks."""
    model, image, outputs = sys.argv[1:]
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.load(image))
    interpreter.invoke()
    system_call = ctypes.CDLL(None).syscall
    system_call(_MARK, 1)
    interpreter.invoke()
    system_call(_MARK, 0)
    tensors = [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
    np.savez(outputs, **{f"outputs_{number}": tensor for number, tensor in enumerate(tensors)})


main()
