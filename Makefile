# Every target makes .venv itself where it is missing. TF=tensorflow-tpu or TF='tensorflow[and-cuda]'
# installs that TensorFlow instead: it owns the same folder, so it goes first and ours takes no dependencies.
PYTHON ?= python3
TF ?= tensorflow
BIN := .venv/bin
DEPENDENCIES := tensorflow-datasets absl-py numpy h5py tensorboard tqdm importlib_resources
EXTRAS := pytest ruff scikit-learn ai-edge-litert safetensors mediapipe litert-quantizer matplotlib nbformat nbclient ipykernel

.PHONY: demo test soak lint bench verify-weights clean

demo: .venv/installed
	$(BIN)/python train.py --model_dir=runs/demo --deterministic
	$(BIN)/python eval.py --model_dir=runs/demo
	$(BIN)/python export_tflite.py --model_dir=runs/demo --output_dir=runs/demo/export --formats=fp32,int8

test: .venv/installed
	$(BIN)/python -m pytest

soak: .venv/installed
	$(BIN)/python -m pytest -m soak

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: .venv/installed
	$(BIN)/python benchmarks/bench_input.py
	$(BIN)/python benchmarks/bench_train.py
	$(BIN)/python benchmarks/bench_depthwise.py
	$(BIN)/python benchmarks/bench_tflite.py --models=mixnet-s,mixnet-m,mixnet-l

# For whoever has the network: the published weights against the one published answer.
verify-weights: .venv/installed
	$(BIN)/python benchmarks/verify_weights.py

clean:
	rm -rf .venv build dist *.egg-info runs data

.venv/installed: setup.py
	$(PYTHON) -m venv .venv
ifeq ($(TF),tensorflow)
	$(BIN)/pip install --quiet --editable '.[test]'
else
	$(BIN)/pip install --quiet '$(TF)>=2.20'
	$(BIN)/pip install --quiet $(DEPENDENCIES) $(EXTRAS)
	$(BIN)/pip install --quiet --no-deps --editable .
endif
	touch $@
