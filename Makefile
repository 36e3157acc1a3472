# `make demo` and `make test` both work as the first command on a fresh clone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Oldest that is supported, that of the figures in bench/NOTES.md, newest.
BINDINGS := $(addprefix build/bindings/,10.3.0 10.6.0 11.4.0.106)

# All readers of bytes from outside; findings, if any, in fuzz-findings.jsonl.
FUZZ_ARGS ?=

.PHONY: demo test fuzz bindings ros containers gpu lint types check clean help

help:           ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*##/  -/'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)  ## sample checkpoints, exported, run on a photograph, compared with PyTorch
	$(BIN)/vla-sample --layout pure --size tiny -o samples/ --force
	$(BIN)/vla-sample --layout hybrid-a --size small -o samples/ --force
	$(BIN)/vla-export --ckpt samples/best_simple_lstm_model.pth --fp16 -o engines/ --force
	$(BIN)/vla-export --ckpt samples/best_simple_clip_lstm_model.pth --fp16 -o engines/ --force
	$(BIN)/vla-run engines/best_simple_lstm_model-fp16 export/images/coffee.jpg
	$(BIN)/vla-run engines/best_simple_clip_lstm_model-fp16 export/images/coffee.jpg
	$(BIN)/vla-bench engines/ --quick --out report/

test: bindings build/ros/.installed  ## the test suite, with coverage
	VLA_EDGE_TENSORRT_BINDINGS=$$(printf '%s:' $(BINDINGS)) \
	  $(BIN)/python -m pytest -m "not gpu and not full" -n 2 --cov --cov-report=term $(PYTEST_ARGS)

fuzz: $(STAMP)  ## damage every kind of outside file 100,000 times: FUZZ_ARGS='images --cases 1000 --seed 7'
	$(BIN)/python tests/fuzz/fuzz_run.py $(FUZZ_ARGS)

bindings: $(BINDINGS:=/.installed)  ## TensorRT's Python classes without its libraries, for the tests

# Without a wheel for this platform the tests say what they skip; the next run asks again.
build/bindings/%/.installed: $(STAMP)
	@rm -rf $(@D)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --only-binary :all: \
	  --target $(@D) tensorrt-cu12-bindings==$* && touch $@ || \
	  echo 'TensorRT $*: its bindings cannot be installed here; their tests are skipped'

# ROS 2 Kilted's rclpy with Fast DDS, as wheels that others than its makers build (Python 3.10 to 3.12, x86-64, 220 MB).
ROS_PACKAGES := ros-rclpy~=9.1.2 $(addprefix ros-,rmw-fastrtps-cpp std-msgs sensor-msgs geometry-msgs diagnostic-msgs lifecycle-msgs)

build/ros/.installed: $(STAMP)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/ros
	@$(BIN)/uv pip install --quiet --python build/ros/bin/python $(ROS_PACKAGES) && \
	  $(BIN)/uv pip install --quiet --python build/ros/bin/python --editable . onnxruntime && touch $@ || \
	  { rm -rf build/ros; echo 'ROS 2: its rclpy cannot be installed here; its tests are skipped'; }

ros: build/ros/.installed  ## the ROS 2 node, on DDS and on rclpy, against a real rclpy
	$(BIN)/python -m pytest -m ros

# No image can be built where no base can be pulled; its own steps run anyway. Needs root, Linux, Debian's archive.
containers: $(STAMP)  ## lint docker/, carry out its images' steps in clean roots, run a tiny bundle there
	$(BIN)/python -m pytest tests/docker
	$(BIN)/python docker/rehearse.py docker/Dockerfile.robot
	$(BIN)/python docker/rehearse.py docker/Dockerfile.export --arg TORCH_BACKEND=

# Full-size figures of bench/NOTES.md; needs a GPU, TensorRT and 25 GB of disk.
gpu: $(STAMP)   ## on a machine with a GPU and TensorRT: full size, built, checked, soaked, compared
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev,tensorrt]'
	$(BIN)/vla-sample --layout pure --size full -o samples/ --force
	$(BIN)/vla-sample --layout hybrid-a --size full -o samples/ --force
	$(BIN)/python -m vla_edge.bench.proof.acceptance samples/*.pth -o proof/

lint: $(STAMP)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checkers do not see through the editable mapping of folders to packages: check an installed copy.
types: $(STAMP) ## mypy over an installed copy, and the examples
	rm -rf build/typecheck build/lib && mkdir -p build/typecheck
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --target build/typecheck .
	cd build/typecheck && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml --python-executable $(abspath $(BIN))/python -p vla_edge
	cd build/typecheck && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml --python-executable $(abspath $(BIN))/python $(wildcard $(CURDIR)/examples/*/*.py)

check: lint types test ## everything that CI runs

clean:          ## remove what the other targets made
	rm -rf $(VENV) build samples report proof .pytest_cache .mypy_cache .ruff_cache .coverage
