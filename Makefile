# Each target creates .venv if it is missing, and installs the extras of setup.py that it needs; the folder
# $(INSTALLED) has an empty file for each set of extras that is installed. TF=tensorflow-tpu or
# TF='tensorflow[and-cuda]' installs that TensorFlow instead. All of them install the same folder `tensorflow`, so .venv
# is created anew for another TF, TF is installed first, and tensorflow is left out of what setup.py asks for.
PYTHON ?= python3
TF ?= tensorflow
BIN := .venv/bin
TWO_PROCESSES := --numprocesses=2 --dist=loadscope --no-loadscope-reorder
INSTALLED := .venv/installed/$(subst ],,$(subst [,-,$(TF)))
REQUIREMENTS = import importlib.metadata, re; \
  asked = [line.partition(";") for line in importlib.metadata.requires("mixnet_tf")]; \
  wanted = [name for name, _, when in asked if not when or when.split("\"")[1] in "$*".split(",")]; \
  print(*[name for name in wanted if not re.match(r"tensorflow\b(?!-)", name)], sep="\n")

.PHONY: demo detection-demo study search web docs test test-fast soak seeds lint bench arm64 rivals gpu-check npu-check tpu tpu-table verify-weights clean

demo: $(INSTALLED)/demo,export,report
	$(BIN)/python train.py --model_dir=runs/demo --deterministic
	$(BIN)/python export_tflite.py --model_dir=runs/demo --output_dir=runs/demo/export --formats=fp32,int8
	$(BIN)/python eval.py --model_dir=runs/demo --report_dir=runs/demo/report

# Trains an SSDLite detector of handwritten digits, prints COCO's numbers, draws twelve test scenes, and exports.
detection-demo: $(INSTALLED)/demo,detection,export
	$(BIN)/python train.py --task=detection --model_dir=runs/detection-demo --deterministic --eval_every=0
	$(BIN)/python eval.py --model_dir=runs/detection-demo --split=test --draw=runs/detection-demo/scenes.png
	$(BIN)/python export_tflite.py --model_dir=runs/detection-demo --output_dir=runs/detection-demo/export --formats=fp32

# Repeats the paper's figure 4 with a small network, in about a quarter of an hour; the same command resumes it.
study: $(INSTALLED)/demo,report
	$(BIN)/python studies/kernel_sizes.py --figure=4 --networks=studies/v1_stride4.json --largest_kernel=9 --seeds=3 \
	  --dataset=scattered_digits --eval_split=test --model_dir=runs/study --deterministic

# Searches a small space for cheap and accurate networks, and draws as many at random; the same command resumes it.
search: $(INSTALLED)/demo,export,search
	$(BIN)/python -m mixnet_tf.search --space=studies/search_space.json --dataset=scattered_digits --image_size=32 \
	  --evaluations=20 --population=10 --random_baseline --search_dir=runs/search

# Serves a page on localhost that classifies images in the browser with the files that `make demo` exported.
web: $(INSTALLED)/demo,export
	@command -v npm > /dev/null || { echo "make web needs npm, which comes with Node.js: https://nodejs.org" >&2; exit 1; }
	npm ci --prefix examples/web
	$(BIN)/python examples/web/serve.py --model_dir=runs/demo

# Builds the documentation site in docs/_build/html; a warning, such as of a broken link, is an error.
docs: $(INSTALLED)/test
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

test: $(INSTALLED)/test
	$(BIN)/python -m pytest $(TWO_PROCESSES)

# All tests but those that train, export, read datasets, build full-size networks or start a process.
test-fast: $(INSTALLED)/test
	$(BIN)/python -m pytest $(TWO_PROCESSES) -m 'not soak and not seeds and not slow'

soak: $(INSTALLED)/test
	$(BIN)/python -m pytest $(TWO_PROCESSES) -m soak

# Trains S from four seeds, and M, for what is claimed of their int8 files; half an hour.
seeds: $(INSTALLED)/test
	$(BIN)/python -m pytest $(TWO_PROCESSES) -m seeds

# The long tests of one package: soak-training, soak-export, ...
soak-%: $(INSTALLED)/test
	$(BIN)/python -m pytest -m soak tests/$*

lint: $(INSTALLED)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: $(INSTALLED)/test
	$(BIN)/python benchmarks/bench_input.py
	$(BIN)/python benchmarks/bench_train.py
	$(BIN)/python benchmarks/bench_depthwise.py
	$(BIN)/python benchmarks/bench_tflite.py --models=mixnet-s,mixnet-m,mixnet-l

# Counts instructions on ARM64 cores, and measures milliseconds here. Creates an ARM64 system in .arm64 if it is
# missing, for which it installs Debian's qemu-user and debootstrap: needs root, Debian and the network.
# `make soak-export` then uses it, too.
arm64: $(INSTALLED)/test .arm64/count_instructions.so
	$(BIN)/python benchmarks/bench_tflite.py --models=mixnet-s --others= --formats=fp32,int8 \
	  --cores=cortex-a76,cortex-a55,cortex-a53

.arm64: | $(INSTALLED)/test
	benchmarks/arm64/build.sh .arm64 $(BIN)/pip

.arm64/count_instructions.so: benchmarks/arm64/count_instructions.c | .arm64
	gcc -O2 -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden -o $@ $<

# Compares S with MNN and ncnn on ARM64 cores. RIVALS is the Python of an environment of its own with what
# benchmarks/arm64/build_rivals.sh names; without .rivals, bench_rivals.py shows stored counts beside ours.
RIVALS ?= python3
rivals: $(INSTALLED)/test .arm64/count_instructions.so .rivals
	$(BIN)/python benchmarks/bench_rivals.py

.rivals:
	benchmarks/arm64/build_rivals.sh .rivals $(RIVALS)

# Counts what exported files, and S, M and L with random weights, ask of a phone's GPU, and compares their answers with
# the CPU's: LiteRT's GPU code on a GPU of software, for which it installs Debian's chromium if it is missing (needs root
# and the network then). `make soak-export` runs trained networks there, too.
gpu-check: $(INSTALLED)/test .gpu
	$(BIN)/python benchmarks/accelerators/gpu.py --models=mixnet-s,mixnet-m,mixnet-l

.gpu: benchmarks/accelerators/build_gpu.sh benchmarks/accelerators/counting_icd.c
	benchmarks/accelerators/build_gpu.sh .gpu

# Compiles exported files, and S, M and L with random weights, for the NPUs of phones: how many partitions there are, and
# what is left to the CPU. Installs the compilers in .npu if it is missing: needs the network, gcc, and Linux on x86-64.
# `make soak-export` then uses them, too.
npu-check: $(INSTALLED)/test .npu
	$(BIN)/python benchmarks/accelerators/npu.py --models=mixnet-s,mixnet-m,mixnet-l

.npu: | $(INSTALLED)/test
	benchmarks/accelerators/install_npu.sh .npu $(BIN)/python

# Compiles MixNet-S's inference for a TPU v5e by Google's compiler, in two minutes, and prints what it estimates; no TPU is
# needed. Installs the compiler in .tpu if it is missing: needs the network, and Linux on x86-64. `make soak-training`
# then uses it, too.
tpu: $(INSTALLED)/test .tpu
	$(BIN)/python benchmarks/tpu/measure.py --network=mixnet-s --step=inference --topology=v5e

.tpu: | $(INSTALLED)/test
	benchmarks/tpu/install.sh .tpu $(BIN)/python

# Prints the estimates of all networks that were compiled; `benchmarks/tpu/table.py --compile` compiles the others.
tpu-table: $(INSTALLED)/test
	$(BIN)/python benchmarks/tpu/table.py

# Reads the seven published sets of weights, and compares the one published answer; needs the network.
verify-weights: $(INSTALLED)/test
	$(BIN)/python benchmarks/verify_weights.py

clean:
	rm -rf .venv .arm64 .rivals .gpu .npu .tpu build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find . \( -path ./runs -o -path ./data -o -path ./.git \) -prune -o -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED):
	rm -rf .venv
	$(PYTHON) -m venv .venv
	mkdir -p $@

$(INSTALLED)/%: setup.py | $(INSTALLED)
ifeq ($(TF),tensorflow)
	$(BIN)/pip install --quiet --editable '.[$*]'
else
	$(BIN)/pip install --quiet '$(TF)>=2.20'
	$(BIN)/pip install --quiet --no-deps --editable .
	$(BIN)/python -c '$(REQUIREMENTS)' > .venv/requirements.txt
	$(BIN)/pip install --quiet --requirement .venv/requirements.txt
endif
	touch $@
