# Everything that a target needs is made in .venv, from python3, pip and make alone.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
NODE := .venv/clients
PEERS := .venv-peers

# The tests start hundreds of processes; what one of them has compiled need not be compiled by the next.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo quick test test-servers test-clients check fuzz soak bench bench-short bench-peers clean

demo: $(READY)
	$(BIN)/python -u examples/demo.py

# For every save, in half a minute: the rows of tests/cases against the core, the traps, and the units of values,
# credentials, decision, verification, JWTs and lifecycles, with stores in memory. Tests that start processes, take
# seconds or fetch keys over HTTPS are left out, and so are adapters, the HTTP API, the command line, the client and the
# files of stores.
quick: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not processes and not slow" -k "not [file and not -file]" \
	  --ignore tests/jwts/test_jwks.py tests/test_cases.py tests/test_traps.py tests/test_canary.py tests/values \
	  tests/credentials tests/decision tests/verification tests/jwts tests/lifecycles

# One process more than two cores: some tests wait for a second to pass, or for a server to start.
test: $(READY)
	$(BIN)/python -m pytest --numprocesses 3 --dist loadscope

# What real servers call their peer, by TCP and by Unix socket, alone and behind nginx, and how each begins: eight
# requests at once, preloaded, forked, with greenlets. Needs nginx and uWSGI, and says what it skips without them:
# apt-get install nginx-light uwsgi-core uwsgi-plugin-python3
test-servers: $(READY)
	SERVERS=1 $(BIN)/python -m pytest --numprocesses 2 --dist load tests/adapters/test_peers.py tests/adapters/test_cases_servers.py

# Clients that generators make of the OpenAPI document, for Python and TypeScript, used against the service, and linters
# of such documents. Those of npm are in tests/management/npm, each with its digest in the lock file; what needs them is
# skipped, and says so, where npm has none.
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

# More of what the tests do in little: requests made up from the OpenAPI document, calls of the state machine, texts
# that are nearly JWTs, and what becomes of JWTs while clock, keys and revocations change.
# Each run makes up others, unless SEED=… says which.
fuzz: $(READY)
	FUZZ=15 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 tests/lifecycles/test_lifecycles.py tests/jwts/test_jwts.py tests/management/test_openapi.py -k "Lifecycles or schemathesis or verdict or remembered" $(if $(SEED),--hypothesis-seed=$(SEED))

# The same exchanges of refresh tokens as in the tests, 100,000 of them, and servers and clients killed among them 200 times;
# and readers and writers of one store that are killed while the files beside it are taken away.
soak: $(READY)
	SOAK=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -rP tests/stores/test_storm.py tests/stores/test_refresh_processes.py

# What the gate costs, beside its bounds; fails if one is missed. It wants a machine that does nothing else.
bench: $(READY)
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/flood.py

# The same in a minute or two: by instructions where valgrind is installed, which a busy machine does not change.
bench-short: $(READY)
	$(BIN)/python benchmarks/bench.py --short

# The same table, with what other packages cost for the same job beside our rows. They have an environment of their own,
# as nothing else needs them.
bench-peers: $(PEERS)/.ready
	$(PEERS)/bin/python benchmarks/bench.py

clean:
	rm -rf .venv $(PEERS)

$(READY): pyproject.toml
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(PEERS)/.ready: pyproject.toml
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[all,bench,peers]'
	@touch $@
