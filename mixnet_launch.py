"""Starts the commands, and keeps harmless log lines off their screens, unless TensorFlow is loaded already.

TensorFlow, CUDA and LiteRT log through C++ directly to file descriptor 2, sometimes while they are imported and at any
log level. So descriptor 2 becomes a pipe to a child process, which passes on all lines except the harmless ones, and
shows these too if the command fails. At its end the command waits for the child. A container ends with its process 1,
which would kill the child before the last line is shown, so nothing is filtered in process 1 or in what it has started.
With `--verbosity` (absl's flag) every line is shown.

This is a module of its own because `mixnet_tf` imports TensorFlow.
"""

import atexit
import collections
import contextlib
import functools
import importlib
import os
import re
import select
import signal
import sys
import time

# What is held back, and who writes it.
HARMLESS = (
    r"[IW]\d{4} ",  # TensorFlow's information and warnings, those before its log level is known
    r"WARNING: All log messages before absl::InitializeLog",
    r"To enable the following instructions: ",  # TensorFlow: the processor's features
    r"E\d{4} .* failed call to cuInit: ",  # no GPU
    r"E\d{4} .* Unable to register cu(BLAS|DNN|FFT) factory",  # TensorFlow for CUDA registers them twice
    r"E\d{4} .* oneDNN supports DT_\w+ only on platforms with AVX-512",  # another implementation is taken
    r"E\d{4} .* NodeDef mentions attribute use_unbounded_threadpool",  # tf.data's optimizer
    r"(INFO|WARNING|VERBOSE): \[\w+\.cc:\d+\] ",  # LiteRT
    r"INFO: Created TensorFlow Lite XNNPACK delegate",
    r"└ Could not load shared library .*libLiteRtCompilerPlugin",  # LiteRT's plugins for other processors
    r"fully_quantize: \d, inference_type: ",  # TensorFlow's TFLite converter
)
_HARMLESS = re.compile("|".join(HARMLESS).encode())
_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_VERBOSITY = re.compile(r"--?(v|verbosity)(=|$)")
_SUCCESS = b"\0command succeeded\0\n"
_WAIT = 0.2  # seconds that an unfinished line may stay unseen
_MAX_HELD = 1000  # lines
_MAX_WAIT_AT_END = 3.0  # seconds to wait for the filter


def keep_quiet():
    """Filters what is written to standard error from now on; to be called before TensorFlow is imported."""
    if "tensorflow" in sys.modules or any(_VERBOSITY.match(argument) for argument in sys.argv[1:]):
        return
    os.environ.setdefault(_LOG_LEVEL, "2")
    if not hasattr(os, "fork") or 1 in (os.getpid(), os.getppid()):
        return
    if sys.stderr.isatty():
        print("Loading TensorFlow ...", file=sys.stderr, flush=True)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write_end)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it ends when the command has closed the pipe
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)  # whoever reads the command's output waits for the command alone
        _filter(read_end, 2)
        os._exit(0)
    os.close(read_end)
    unfiltered = os.dup(2)
    os.dup2(write_end, 2)
    os.close(write_end)
    atexit.register(_end_filter, child, unfiltered, os.getpid())


def _end_filter(child, unfiltered, owner):
    """Says how the command ended, and waits until every line is shown."""
    if os.getpid() != owner:  # in a fork of the command
        return
    sys.stderr.flush()
    if not hasattr(sys, "last_value"):  # set where an exception nobody caught ends the process
        os.write(2, _SUCCESS)
    os.dup2(unfiltered, 2)
    give_up = time.monotonic() + _MAX_WAIT_AT_END  # a process that the command has left behind may hold the pipe
    with contextlib.suppress(ChildProcessError):  # somebody else has waited for it
        while os.waitpid(child, os.WNOHANG) == (0, 0) and time.monotonic() < give_up:
            time.sleep(0.01)


def _filter(source, target):
    """Copies lines until the other end is closed; then the lines held back, if nothing said that all went well."""
    held: collections.deque[bytes] = collections.deque(maxlen=_MAX_HELD)
    rest, succeeded = b"", False
    while True:
        waited = rest and not select.select([source], [], [], _WAIT)[0]
        data = b"" if waited else os.read(source, 1 << 16)
        *lines, rest = re.split(rb"(?<=[\r\n])", rest + data)
        if waited or not data:  # an unfinished line: a prompt, a progress bar, or the last one
            lines, rest = [*lines, rest], b""
        for line in lines:
            if line.endswith(_SUCCESS):  # perhaps behind an unfinished line
                succeeded, line = True, line.removesuffix(_SUCCESS)
            if _HARMLESS.match(line):
                held.append(line)
            else:
                os.write(target, line)
        if not data and not waited:
            break
    if held and not succeeded:
        os.write(target, b"Log lines that were held back until here:\n" + b"".join(held))


def start(module):
    """Runs a command by the name of the module that has its `main` and `define_flags`."""
    keep_quiet()
    try:
        importlib.import_module("mixnet_tf")
    except ImportError as error:
        if error.name != "keras" or "KERAS_BACKEND" not in str(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    app = importlib.import_module("absl.app")
    process = importlib.import_module("mixnet_tf.commands.process")
    command = importlib.import_module(module)
    app.run(process.command(command.main, command.define_flags))


train, evaluate, export, search = (
    functools.partial(start, f"mixnet_tf.commands.{name}") for name in ("train", "evaluate", "export", "search")
)
