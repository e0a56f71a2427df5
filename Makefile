# make run    serve the demo          make test   run every test
# make dev    the same, reloading     make lint   check style and types
# make test-versions  the tests that other versions of Flask, gunicorn, Python … could break
# make audit  what is known of the versions that are needed
# make docs   the pages as a site, in build/docs; make docs-serve  look at it      make docs-api  write docs/api.md and what settings are
# make soak   what peers may say, a million times      make fuzz   the same, guided by atheris
# make release  look whether this may be released, test all, build what is uploaded
# make bench  measure against the installed peers (about 25 minutes; BENCH=--quick: 4)

PORT ?= 8000
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What the soak begins with (another one each time), and seconds for each property of the fuzzing.
SEED ?= $(shell date +%s)
SECONDS ?= 10
# Live tests wait much, so that there is work for more processes than cores; they take longest and begin
# first, and the others fill their pauses. A file's tests stay together.
SPREAD := --numprocesses 5 --dist loadfile --no-loadscope-reorder
NPM := $(patsubst %,%/node_modules,tests/live/node examples/htmx examples/react)
TSC := browser/node_modules
APT_TOOLS := chromium nginx openssl redis-server

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tests start hundreds of servers: compiling everything for each of them cost a third of it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run dev test test-python test-browser-client test-versions soak fuzz audit lint docs docs-serve docs-api bench release tools node clean

run: $(VENV)/.installed
	@echo
	@echo "  flask-streaming demo:  http://127.0.0.1:$(PORT)   (Ctrl+C stops it)"
	@echo
	@exec $(BIN)/gunicorn --config gunicorn.conf.py --bind 127.0.0.1:$(PORT) app:app

dev: $(VENV)/.installed
	@exec $(BIN)/flask --app app run --debug --port $(PORT)

test: test-python test-browser-client

test-python: $(VENV)/.installed-test tools $(NPM:%=%/.installed)
	$(BIN)/python -m pytest $(SPREAD) tests/live tests/web tests/clients tests

test-browser-client: $(TSC)/.installed
	node --test --test-reporter=spec tests/browser/*.test.mjs

test-versions: $(VENV)/.installed-versions tools
	@.ci/versions

soak: $(VENV)/.installed-test
	@echo "SEED=$(SEED)"
	FUZZ=soak $(BIN)/python -m pytest $(SPREAD) --hypothesis-seed=$(SEED) tests/fuzz

fuzz: $(VENV)/.installed-test
	$(BIN)/python -m tests.fuzz.coverage_guided $(SECONDS)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict

audit: $(VENV)/.installed-audit
	@$(BIN)/python .ci/audit.py

# Links and anchors that lead nowhere fail, and so does what the site shows otherwise than GitHub.
docs: $(VENV)/.installed-docs
	$(BIN)/python docs/write_site.py

docs-serve: docs
	@exec $(BIN)/python -m http.server --bind 127.0.0.1 --directory build/docs $(PORT)

docs-api: $(VENV)/.installed
	$(BIN)/python docs/write_api.py > docs/api.md
	$(BIN)/python docs/write_api_twin.py > docs/api.zh-CN.md
	$(BIN)/python docs/write_configuration.py

# The server and the generator need a CPU each and the machine to themselves.
bench: $(VENV)/.installed-bench
	$(BIN)/python -m bench.run $(BENCH)

# It uploads nothing and sets no tag; it says how.
release: $(VENV)/.installed-release $(TSC)/.installed
	@$(BIN)/python .ci/release.py look
	$(MAKE) lint docs test
	@$(BIN)/python .ci/release.py build

clean:
	rm -rf $(VENV) $(NPM) $(TSC) browser/dist browser/LICENSE build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

# One stamp per set of packages; a changed pyproject.toml installs anew.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed ($(PYTHON) is older or missing); PYTHON=… names another"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' \
		|| { echo "Python's venv module is needed; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.python
	$(BIN)/pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/.python
	$(BIN)/pip install --quiet --editable '.[jobs,test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: pyproject.toml | $(VENV)/.python
	$(BIN)/pip install --quiet --editable '.[bench,demo]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-lint: pyproject.toml | $(VENV)/.python
	$(BIN)/pip install --quiet --editable '.[lint]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/.python
	$(BIN)/pip install --quiet --editable '.[docs]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-release: pyproject.toml | $(VENV)/.python
	$(BIN)/pip install --quiet --editable '.[release,test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-versions: pyproject.toml | $(VENV)/.python
	$(BIN)/pip install --quiet --editable '.[versions]'
	@touch $@

$(VENV)/.installed-audit: pyproject.toml | $(VENV)/.python
	$(BIN)/pip install --quiet --editable '.[audit,demo,openai,redis]'
	@touch $@ $(VENV)/.installed

# The AI SDK, whose own parser reads our streams in the tests; what examples take from npm.
%/node_modules/.installed: %/package.json | node
	npm install --prefix $* --no-package-lock --no-audit --no-fund --silent
	@touch $@

# npm builds this one's page, too.
examples/react/node_modules/.installed: examples/react/feed.jsx examples/react/use-stream.js

# What checks the browser client's types, and makes them when it is packed.
$(TSC)/.installed: browser/package.json | node
	npm install --prefix browser --no-package-lock --no-audit --no-fund --silent
	@touch $@

tools:
	@.ci/tools $(APT_TOOLS)

node:
	@command -v node >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' \
		|| { echo "Node.js 20 or newer is needed for the browser client's tests: https://nodejs.org"; exit 1; }
