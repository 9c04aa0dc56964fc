# `make demo` and `make test` set everything up by themselves, in .venv.
VENV := .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(VENV)/bin

.PHONY: demo test bench lint setup lock clean

demo: setup
	@$(BIN)/tenfold demo

test: setup lint
	@$(BIN)/pytest

# Everything that README says about speed, measured here: 15 minutes, Java 17 and Maven.
bench: setup
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@$(BIN)/tenfold bench --out loadtest/results/bench.json
	@$(BIN)/tenfold bench report loadtest/results/bench.json --out loadtest/results/bench.svg

lint: setup
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else "Tenfold needs Python 3.11 or newer, this is %d.%d: make PYTHON=/path/to/python3.11 ..." % v)'
	@echo "Setting up $(VENV) (about a minute, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,dev-broker]'
	@touch $@

# New versions of everything, within pyproject.toml's bounds.
lock:
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q -e '.[dev,dev-broker,bench]'
	@{ echo "# Exact versions that \`make setup\` installs and CI tests; change with \`make lock\`."; \
	   $(BIN)/pip freeze --exclude-editable; } > constraints.txt
	@touch $(VENV)/.installed

clean:
	@rm -rf $(VENV) .tenfold build *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
