# Every target makes its own environment, in .venv. It needs only python3, pip and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
NODE := .venv/clients
PEERS := .venv-peers
SITE := .venv-docs

# The tests start hundreds of processes. Bytecode on disk saves each of them the compilation.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo quick test test-servers test-clients check fuzz soak bench bench-short bench-peers docs clean

demo: $(READY)
	$(BIN)/python -u examples/demo.py

# A quick run for every save: the rows of tests/cases against the core, the traps, and the units of
# values, credentials, decision, verification, JWTs and lifecycles, with stores in memory. It omits
# tests that start processes, take seconds or fetch keys over HTTPS, and those of adapters, the HTTP
# API, the command line, the client and the files of stores. Half a minute on two idle cores.
quick: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not processes and not slow" -k "not [file and not -file]" \
	  --ignore tests/jwts/test_jwks.py tests/test_cases.py tests/test_traps.py tests/test_canary.py tests/values \
	  tests/credentials tests/decision tests/verification tests/jwts tests/lifecycles

# Three processes suit two cores, because some tests wait for a clock or for a server to start.
test: $(READY)
	$(BIN)/python -m pytest --numprocesses 3 --dist loadscope

# Tests against real servers: the peer address over TCP and Unix sockets, alone and behind nginx,
# and the start of each server (eight requests at once, preloaded, forked, with greenlets).
# Tests that need nginx or uWSGI are skipped without them, and say so. To install them:
# apt-get install nginx-light uwsgi-core uwsgi-plugin-python3
test-servers: $(READY)
	SERVERS=1 $(BIN)/python -m pytest --numprocesses 2 --dist load tests/adapters/test_peers.py tests/adapters/test_cases_servers.py

# Tests of the OpenAPI document: linters, and clients that are generated from it for Python and
# TypeScript and used against the service. The lock file in tests/management/npm pins the npm packages by
# digest. Tests that need them are skipped, and say so, if npm cannot install them.
test-clients: $(READY)
	mkdir -p $(NODE) && cp tests/management/npm/package.json tests/management/npm/package-lock.json $(NODE)
	-npm ci --prefix $(NODE) --ignore-scripts --no-audit --no-fund --loglevel error
	CLIENTS=$(CURDIR)/$(NODE) $(BIN)/python -m pytest --numprocesses 2 tests/management/test_clients.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

# Generated tests, with many more examples than in "make test": requests from the OpenAPI document,
# calls of the state machine, texts that are almost JWTs, and JWTs while the clock, the keys and the
# revocations change. Each run generates other examples, unless SEED=… is given.
fuzz: $(READY)
	FUZZ=15 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 tests/lifecycles/test_lifecycles.py tests/jwts/test_jwts.py tests/management/test_openapi.py -k "Lifecycles or schemathesis or verdict or remembered" $(if $(SEED),--hypothesis-seed=$(SEED))

# Long runs of two tests: 100,000 exchanges of refresh tokens, during which servers and clients are
# killed 200 times, and readers and writers that are killed while the files beside their store are
# removed.
soak: $(READY)
	SOAK=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -rP tests/stores/test_storm.py tests/stores/test_refresh_processes.py

# The cost of the gate, beside its bounds. It fails if a bound is missed, and needs an idle machine.
bench: $(READY)
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/flood.py

# The same in a minute or two. With valgrind installed it counts instructions, whose number does not
# change on a busy machine.
bench-short: $(READY)
	$(BIN)/python benchmarks/bench.py --short

# The same table, with other packages that do the same job. They have their own environment, because
# no other target needs them.
bench-peers: $(PEERS)/.ready
	$(PEERS)/bin/python benchmarks/bench.py

# The site, in docs/_build. A link that leads nowhere, a name that does not exist and a page in no
# navigation are errors.
docs: $(SITE)/.ready
	$(SITE)/bin/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky -b html docs docs/_build
	@echo "Open docs/_build/index.html"

clean:
	rm -rf .venv $(PEERS) $(SITE) docs/_build

$(READY): pyproject.toml
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(PEERS)/.ready: pyproject.toml
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[all,bench,peers]'
	@touch $@

$(SITE)/.ready: pyproject.toml
	$(PYTHON) -m venv --clear $(SITE)
	$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@
