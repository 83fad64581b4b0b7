"""Runs inside the emulation, on Debian's Python: python3 guest.py ENGINE MODEL IMAGE OUTPUTS MAPS.

IMAGE is an .npy file. OUTPUTS is an .npz file to write: `outputs_0`, ... in the order of the output tensors. MAPS is a
file for the addresses of the libraries. The model is invoked twice and counted the second time; the first invocation
packs weights.
"""

import ctypes
import pathlib
import shutil
import sys

import numpy as np

_MARK = 0x4D4958  # as in count_instructions.c


def _litert(model, image):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    [place] = [detail["index"] for detail in interpreter.get_input_details()]
    places = [detail["index"] for detail in interpreter.get_output_details()]
    return (
        lambda: interpreter.set_tensor(place, image),
        interpreter.invoke,
        lambda: [interpreter.get_tensor(index) for index in places],
    )


def _mnn(precision):
    def load(model, image):
        import MNN

        interpreter = MNN.Interpreter(model)
        session = interpreter.createSession({"backend": "CPU", "numThread": 1, "precision": precision})
        source, target = interpreter.getSessionInput(session), interpreter.getSessionOutput(session)

        def tensor(values):
            return MNN.Tensor(values.shape, MNN.Halide_Type_Float, values, MNN.Tensor_DimensionType_Caffe)

        def read():
            answer = tensor(np.zeros(target.getShape(), np.float32))
            target.copyToHostTensor(answer)
            return [np.array(answer.getNumpyData())]

        # MNN reuses the memory of the input, so it is copied before each run.
        return lambda: source.copyFrom(tensor(image)), lambda: interpreter.runSession(session), read

    return load


def _ncnn(half):
    def load(model, image):
        import ncnn

        network = ncnn.Net()
        network.opt.num_threads = 1
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
            setattr(network.opt, option, half)
        network.load_param(model)
        network.load_model(str(pathlib.Path(model).with_suffix(".bin")))
        run = {}

        def feed():
            run["extractor"] = network.create_extractor()
            run["extractor"].input(network.input_names()[0], ncnn.Mat(image[0]).clone())

        def invoke():
            _, run["answer"] = run["extractor"].extract(network.output_names()[0])

        return feed, invoke, lambda: [np.array(run["answer"])]

    return load


_ENGINES = {
    "litert": _litert,
    "mnn": _mnn("normal"),
    "mnn half": _mnn("low"),
    "ncnn": _ncnn(False),
    "ncnn half": _ncnn(True),
}


def main():
    """Invokes the model twice, the second time between two marks."""
    engine, model, image, outputs, maps = sys.argv[1:]
    feed, invoke, read = _ENGINES[engine](model, np.load(image))
    system_call = ctypes.CDLL(None).syscall
    feed()
    invoke()
    feed()
    system_call(_MARK, 1)
    invoke()
    system_call(_MARK, 0)
    shutil.copyfile("/proc/self/maps", maps)
    np.savez(outputs, **{f"outputs_{number}": tensor for number, tensor in enumerate(read())})


main()
