# make demo   watch the whole system work on this computer      make test   run every check
# Both set up everything they need, in .uv and .venv beside this file, from the lock file.

UV_VERSION := 0.13.9
# the first of these that is Python 3.11 or newer; name another with `make demo PYTHON=/path/to/python3`
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
UV := .uv/bin/uv
RUN := .venv/bin
EXTRAS := --extra classifier --extra sampler --extra tools

export UV_PYTHON_DOWNLOADS := never
# handed on as it is, for a folder's name may hold quotes, spaces and dollars
export DEMO_IMAGES = $(value IMAGES)

.DEFAULT_GOAL := help
.PHONY: help demo test bench format lint pytest newer faults fuzz clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

demo: .venv/demo ## watch the whole system on this computer; IMAGES=DIR for your own pictures
	@$(RUN)/python -m demo

test: lint pytest newer ## run every check

bench: export BENCH_CLASSIFIER_QUICK = $(QUICK)
bench: export BENCH_CLASSIFIER_ANYWAY = $(ANYWAY)
bench: export BENCH_CLASSIFIER_ROUNDS = $(ROUNDS)
bench: export BENCH_CLASSIFIER_SOAK = $(SOAK)
bench: export BENCH_CLASSIFIER_REPORT = $(value REPORT)
bench: export BENCH_CLASSIFIER_IMAGES = $(value IMAGES)
bench: export BENCH_SAMPLER_REPORT = $(value REPORT)
bench: export BENCH_SAMPLING_REPORT = $(value REPORT)
bench: export BENCH_SAMPLING_IMAGES = $(value IMAGES)
bench: .venv/bench ## how fast the classifier is (or PART=sampler, PART=sampling); QUICK=1 in two minutes, SOAK=50000, REPORT=docs, IMAGES=DIR
	@$(RUN)/python -m bench $(or $(PART),classifier)

lint: .venv/test ## formatting, style, types and layers
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy
	$(RUN)/lint-imports --no-logo

pytest: .venv/test ## the tests
	@$(RUN)/python tests/azurite.py
	@sh tests/chromium.sh
	$(RUN)/pytest -n 2 --dist loadfile

fuzz: .venv/test ## post damaged images and forms for about ten minutes
	FUZZ_EXAMPLES=40000 FUZZ_LAST=.cache/fuzzed $(RUN)/pytest tests/test_fuzz.py -o timeout=0 -o faulthandler_timeout=0

newer: .venv/test ## the quick tests again on the newest Python found here
	@sh tests/newer.sh $(UV)

faults: .venv/test ## break a device in every way and count its images (20 minutes); ROUNDS=3, ONLY=kill, SHORT=1
	@$(RUN)/python tests/azurite.py
	@cd tests && FAULTS_ROUNDS='$(ROUNDS)' FAULTS_ONLY='$(ONLY)' FAULTS_SHORT='$(SHORT)' ../$(RUN)/python -m faults

format: .venv/test ## put the code into the project's form
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix .

clean: ## remove what the demo and the checks left
	rm -rf .venv .uv .demo .cache

$(UV):
	@test -n '$(PYTHON)' || { echo 'error: no Python 3.11 or newer found; install one, or name it: make demo PYTHON=/path/to/python3' >&2; exit 1; }
	@echo 'setting up (once, about a minute) ...'
	@$(PYTHON) -m venv .uv || { echo 'error: this Python cannot make environments; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/demo: $(UV) uv.lock pyproject.toml
	@echo 'putting the packages of uv.lock into .venv ...'
	@$(UV) sync --quiet --frozen --inexact --python .uv/bin/python $(EXTRAS)
	@touch $@

.venv/bench: $(UV) uv.lock pyproject.toml
	@$(UV) sync --frozen --inexact --python .uv/bin/python $(EXTRAS) --group bench
	@touch $@

.venv/test: $(UV) uv.lock pyproject.toml
	@$(UV) sync --frozen --python .uv/bin/python $(EXTRAS) --all-groups
	@touch $@ .venv/demo .venv/bench
