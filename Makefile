# make demo   train on the embedded digits, sample, evaluate, write runs/demo/report.html
# make test   run the tests
# make lint   style and types
# make evidence   write docs/evidence.md from tests/evidence.py
# make torture    ten times as many hostile files as make test
# Each makes .venv first, once. TORCH=cpu|cuda picks the build (auto: cuda where there is an NVIDIA driver).
PYTHON ?= python3
TORCH  ?= auto
VENV   := .venv
BIN    := $(VENV)/bin
.PHONY: demo test torture lint evidence clean

demo:
	@$(PYTHON) tools/setup_env.py $(VENV) --torch $(TORCH)
	@$(BIN)/kakusan demo --out runs/demo

test:
	@$(PYTHON) tools/setup_env.py $(VENV) --torch $(TORCH) --group test
	@$(BIN)/python -m pytest -n 2

torture:
	@$(PYTHON) tools/setup_env.py $(VENV) --torch $(TORCH) --group test
	@KAKUSAN_TORTURE=1 $(BIN)/python -m pytest -n 2 tests/test_torture.py tests/test_launch.py tests/test_hostile.py \
	  tests/test_commit.py tests/test_checkpoint.py tests/test_engine.py tests/test_skipping.py tests/test_folder.py

lint:
	@$(PYTHON) tools/setup_env.py $(VENV) --torch $(TORCH) --group test --group lint
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyrefly check

evidence:
	@$(PYTHON) tools/evidence.py

clean:
	rm -rf $(VENV)
