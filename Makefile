# Two targets do everything on a fresh machine with python3 and make:
#   make demo   sets up and runs the main job on a real Label Studio
#   make test   sets up and passes the tests
PYTHON ?= python3
BIN := .venv/bin
SET_UP := .venv/.installed

.PHONY: help install demo test check fuzz chaos bench lock audit
help:
	@printf 'make install   .venv with the command exemplar, from requirements.lock\n'
	@printf 'make demo      Label Studio, the backend and 1 400 digits, ready to annotate\n'
	@printf 'make test      every test; those that need a program this machine lacks skip with a reason\n'
	@printf 'make check     ruff, mypy, the import layers\n'
	@printf 'make fuzz      10 000 odd requests, by schemathesis\n'
	@printf 'make chaos     every file damaged in every way, and 200 kills at named points; make test does a share of it\n'
	@printf 'make bench     the benchmarks of the engine and their peers; about an hour\n'
	@printf 'make lock      compile requirements.lock anew, with the hashes of all files\n'
	@printf 'make audit     ask pip-audit for known holes in what the locks pin (needs the internet)\n'

install: $(SET_UP)

$(SET_UP): requirements.lock requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and f"Exemplar needs Python 3.11 or newer; $(PYTHON) is %d.%d. Try: make PYTHON=python3.12 install" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: install
	$(BIN)/exemplar demo

test: install
	$(BIN)/python -m pytest

# Its cache would take a name for the module that it was before a move.
check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fuzz: install
	EXEMPLAR_FUZZ_CASES=10000 $(BIN)/python -m pytest tests/flows/test_flow_fuzz.py

chaos: install
	CHAOS_SHARE=1 CHAOS_KILLS=200 $(BIN)/python -m pytest -s tests/chaos

# The peers are what we compare with, and no part of the product; without dependencies, so that they change none of ours.
bench: install
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/requirements.txt numba llvmlite
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/honesty.py
	$(BIN)/python benchmarks/speed.py

# label-studio-ml's pins are outdated: requirements.overrides says which are overridden, and why.
# requirements.lock is what users run, requirements-dev.lock what the tests need besides.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --generate-hashes \
	--override requirements.overrides pyproject.toml
# A requirement with its hashes is one block; the same one under another marker stands in both.
BESIDES := import re, sys; run, all = (re.split(r"(?m)^(?=\w)", open(path).read()) for path in sys.argv[1:]); \
	print("".join(block for block in all if block not in run), end="")
lock:
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --output-file requirements.lock
	$(COMPILE) --extra dev --constraint requirements.lock --output-file requirements-all.lock
	$(BIN)/python -c '$(BESIDES)' requirements.lock requirements-all.lock > requirements-dev.lock
	rm requirements-all.lock

# In a venv of its own: what it needs is no part of the product.
audit:
	test -x .audit/bin/pip-audit || ($(PYTHON) -m venv .audit && .audit/bin/pip install --quiet --disable-pip-version-check pip-audit)
	.audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.lock -r requirements-dev.lock
