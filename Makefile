# `make demo` and `make test` do everything on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
# Any torch >= 2.6 works; name another build here, such as TORCH="torch --index-url URL".
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin

.PHONY: demo test docs install clean

demo: $(VENV)/.core
	$(BIN)/preimage upsample examples -o out/demo --seeds 0-7
	$(BIN)/preimage verify out/demo
	@echo
	@echo "Open these pictures: each row is one input, eight candidates that all shrink back to it, and where they differ."
	@ls out/demo/*/grid.png

test: $(VENV)/.dev
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/mypy
	$(BIN)/python -m pytest -q

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict --quiet
	@echo "Open out/site/index.html; to search it, python3 -m http.server -d out/site"

install: $(VENV)/.core

# torch comes first and alone, so that nothing else chooses its build
$(VENV)/.core: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[dev]"
	touch $@

$(VENV)/.docs: $(VENV)/.core
	$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) out
