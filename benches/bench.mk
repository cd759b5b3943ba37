# Benchmarks; included by the Makefile. They need Debian packages only, and take loopback ports for themselves.
#   make bench                all of it: the table (some 15 minutes on two cores), levels, system calls, idle clients, a big reply
#   make bench-quick          the table with fewer rounds and requests: a look, not a verdict
#   make bench-instructions   user instructions per GET; fails when a bar is missed
# BENCH_ARGS is handed on, e.g. `make bench BENCH_ARGS='--only get_p16 --json table.json'`.

.PHONY: bench bench-quick bench-instructions bench-packages bench-packages-valgrind

CARGO ?= cargo
COMPARE = $(CARGO) bench --quiet --bench compare --
BENCH_ARGS ?=

# $(call need,PROGRAM,PACKAGE): installs the package if the program is absent and we may, says what to do otherwise.
need = @PATH="$$PATH:/usr/sbin"; command -v $(1) >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && apt-get update -q && apt-get install -y --no-install-recommends $(2); } \
	|| { echo "$(1) is missing: apt-get install $(2)" >&2; exit 1; }

bench-packages:
	$(call need,redis-server,redis-server)
	$(call need,redis-benchmark,redis-tools)
	$(call need,haproxy,haproxy)
	$(call need,nutcracker,nutcracker)

bench-packages-valgrind:
	$(call need,redis-server,redis-server)
	$(call need,redis-benchmark,redis-tools)
	$(call need,valgrind,valgrind)

bench: bench-packages
	$(COMPARE) $(BENCH_ARGS)
	@echo
	$(COMPARE) --levels
	@echo
	$(COMPARE) --idle 10000
	@echo
	$(COMPARE) --big-reply
	@echo
	-$(COMPARE) --syscalls

bench-quick: bench-packages
	$(COMPARE) --quick $(BENCH_ARGS)

bench-instructions: bench-packages-valgrind
	$(COMPARE) --instructions $(BENCH_ARGS)
