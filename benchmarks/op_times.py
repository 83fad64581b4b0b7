"""Milliseconds of each kind of op, from a trace of TensorFlow's profiler."""

import collections
import pathlib
import tempfile

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

_HOST = "/host:CPU"


def op_milliseconds(run, steps):
    """Runs steps under the profiler.

    Args:
        run: A function that takes a number of steps.
        steps: The number to run.

    Returns:
        Dict from a kind of op, computed by oneDNN or not, to milliseconds of a step inside it, the largest first. Ops
        may overlap.
    """
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            run(steps)
        [path] = pathlib.Path(folder).glob("plugins/profile/*/*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    picoseconds = collections.Counter()
    [host] = [plane for plane in space.planes if plane.name == _HOST]
    for line in host.lines:
        for event in line.events:
            name, _, kind = host.event_metadata[event.metadata_id].name.rpartition(":")
            if name and not name.endswith(":") and kind.isidentifier():  # not ExecutorState::Process
                picoseconds[kind.removeprefix("_MklNative").removeprefix("_Mkl")] += event.duration_ps
    return {kind: total / 1e9 / steps for kind, total in picoseconds.most_common()}
