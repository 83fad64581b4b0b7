"""Installs the library and its commands; the scripts stay in the clone."""

import pathlib
import re

from setuptools import find_packages, setup

_HERE = pathlib.Path(__file__).parent
_VERSION = re.search(r'__version__ = "(.+)"', (_HERE / "mixnet_tf/__init__.py").read_text())[1]

_EXTRAS = {
    "demo": ["scikit-learn"],
    "detection": ["faster-coco-eval", "matplotlib"],
    "export": ["ai-edge-litert", "flatbuffers", "litert-quantizer"],
    "report": ["jinja2", "matplotlib"],
    "search": ["optuna>=5", "matplotlib"],
    "timm": ["safetensors"],
    "docs": ["matplotlib", "nbformat", "nbclient", "ipykernel", "sphinx", "myst-nb", "furo"],
}

setup(
    name="mixnet_tf",
    version=_VERSION,
    description="The official MixNet in Keras 3: weights, training recipe and mobile export",
    long_description=(_HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    py_modules=["mixnet_launch"],
    packages=find_packages(include=["mixnet_tf", "mixnet_tf.*"]),
    package_data={"mixnet_tf": ["py.typed", "reports/report.html"]},
    entry_points={
        "console_scripts": [
            "mixnet-train = mixnet_launch:train",
            "mixnet-eval = mixnet_launch:evaluate",
            "mixnet-export = mixnet_launch:export",
            "mixnet-search = mixnet_launch:search",
        ]
    },
    python_requires=">=3.10",
    install_requires=[
        "tensorflow>=2.20",
        "tensorflow-datasets",
        "absl-py",
        "h5py",
        "numpy",
        "tensorboard",  # TensorFlow 2.21 no longer installs it
        "requests",  # tensorflow-datasets downloads with it; its errors are caught
        "tqdm",
        "importlib_resources",  # tensorflow-datasets 4.9.10 imports it without declaring it
    ],
    extras_require={
        **_EXTRAS,
        # Not for the tests: as it is installed, its libraries are downloaded from Qualcomm.
        "npu": [*_EXTRAS["export"], "ai-edge-litert-sdk-qualcomm"],
        "test": [
            *sorted({package for packages in _EXTRAS.values() for package in packages}),
            "pytest",
            "pytest-xdist",
            "ruff",
            "import-linter",
            "mypy",
            "types-requests",
            "types-tqdm",
            "pycocotools",
            "playwright",
            "mediapipe",
        ],
    },
)
