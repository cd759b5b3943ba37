# Thin on purpose: each target is a command or two that could be typed.
CARGO ?= cargo
ifneq ($(shell id -u),0)
SUDO ?= sudo
endif

.PHONY: demo test consistency lint clean servers fuzz

# The whole picture on loopback: master, three replicas, three Sentinels, redweir in front. `make demo ARGS="--plain"`.
demo: servers
	$(CARGO) build --release
	target/release/redweir demo $(ARGS)

# Everything, against real servers. `make test ARGS="--test tidy"` for a part.
test: servers
	$(CARGO) test $(ARGS)

# What clients see while replicas lag and masters change, at every level, judged read by read; ten minutes or so. `make test` has a short
# round of it. Each run prints its REDWEIR_SEED, which repeats it; tests/consistency/main.rs names the other variables.
ROUNDS ?= 20
LEAST_READS ?= 500000
consistency: servers
	REDWEIR_ROUNDS=$(ROUNDS) REDWEIR_LEAST_READS=$(LEAST_READS) $(CARGO) test --profile fast --test consistency -- --nocapture --test-threads 1 $(ARGS)

# Every target for FUZZ_SECONDS. libFuzzer is reached without a nightly compiler; findings lie in tests/fuzz/artifacts.
FUZZ_TARGETS ?= request_scanner reply_scanner inline classify control_reply config_parse
FUZZ_SECONDS ?= 60
fuzz:
	@command -v cargo-fuzz >/dev/null || { echo "cargo-fuzz is missing: $(CARGO) install cargo-fuzz"; exit 1; }
	@set -e; for target in $(FUZZ_TARGETS); do echo "== $$target, $(FUZZ_SECONDS) s"; \
	  RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --fuzz-dir tests/fuzz --sanitizer none $$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1; done

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

clean:
	$(CARGO) clean

# Debian's packages also start a service on port 6379 (Redis) and 26379 (Sentinel) where systemd runs. redweir's demo and tests use
# servers and ports of their own and never touch those.
servers:
	@command -v redis-server >/dev/null && command -v redis-sentinel >/dev/null && command -v ip >/dev/null || { \
	  echo "installing redis-server, redis-sentinel and iproute2 from the distribution's packages"; \
	  $(SUDO) apt-get update -q && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
	    redis-server redis-sentinel iproute2; }

# make bench, make bench-instructions
-include benches/bench.mk

# make test-versions, make clients
-include tests/servers.mk
