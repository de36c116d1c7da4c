# make demo   train on the embedded digits, sample, evaluate, write runs/demo/report.html
# make test   run the quick tests; eight minutes on two slow cores
# make test-all   run every test: planted faults, killed runs, several processes, oracle scripts
# make lint   style and types
# make evidence   write docs/evidence.md from the theory, the markers of the tests and the citations in src
# make docs   build the documentation site in both languages, offline, in build/site
# make bench   measure against other libraries, in .venv-bench; PARTS="startup memory" for some of it
# make torture    ten times as many hostile files as make test-all
# Each makes .venv first, once. TORCH=cpu|cuda picks the build (auto: cuda where there is an NVIDIA driver).
PYTHON ?= python3
TORCH  ?= auto
VENV   := .venv
BIN    := $(VENV)/bin
.PHONY: demo test test-all torture lint evidence docs bench clean

demo:
	@$(PYTHON) tools/setup_env.py $(VENV) --torch $(TORCH)
	@$(BIN)/kakusan demo --out runs/demo

test:
	@$(PYTHON) tools/setup_env.py $(VENV) --torch $(TORCH) --group test
	@$(BIN)/python -m pytest -n 2 -m "not slow"

test-all:
	@$(PYTHON) tools/setup_env.py $(VENV) --torch $(TORCH) --group test
	@$(BIN)/python -m pytest -n 2

torture:
	@$(PYTHON) tools/setup_env.py $(VENV) --torch $(TORCH) --group test
	@KAKUSAN_TORTURE=1 $(BIN)/python -m pytest -n 2 -m reliability

lint:
	@$(PYTHON) tools/setup_env.py $(VENV) --torch $(TORCH) --group test --group lint
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyrefly check

evidence:
	@$(PYTHON) tools/evidence.py

docs:
	@$(PYTHON) tools/setup_env.py .venv-docs --torch cpu --group docs
	@.venv-docs/bin/python tools/site.py build/site

bench:
	@$(PYTHON) tools/setup_env.py .venv-bench --torch cpu
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/rivals.txt
	@.venv-bench/bin/python benchmarks/every.py $(PARTS)

clean:
	rm -rf $(VENV) .venv-bench .venv-docs
