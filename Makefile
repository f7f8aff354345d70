# Two commands do everything: `make demo` and `make test`. Both set up what they need first, and
# both use the same build of the dependencies.

CARGO ?= cargo
# One target folder for all: set CARGO_TARGET_DIR to keep it elsewhere.
TARGET := $(or $(CARGO_TARGET_DIR),target)
ALLUVIUM := $(TARGET)/debug/alluvium

.PHONY: demo test chaos takeover lint docs bench bench-bus bench-flat bench-commits bench-index bench-all \
  setup readers build help

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 15

setup: ## install what is missing on Debian or Ubuntu
	@deploy/setup.sh

build: setup ## build the binary
	@$(CARGO) build --locked --workspace --bins

demo: build ## ingest a real feed and a shop, and show what landed
	@$(ALLUVIUM) demo

readers: setup ## other engines that read our tables, for the tests
	@tests/readers/setup.sh

test: build readers ## all tests, against real servers
	@ALLUVIUM_TEST_REQUIRE=$${ALLUVIUM_TEST_REQUIRE:-all} deploy/test.sh

# Which buses, the kills that each round has to survive, for how many seconds there may be faults,
# rounds per bus, the first round's seed (none: another one each time), the brokers of a real Kafka
# (none: librdkafka's mock cluster), and what else the program is told.
BUSES ?= embedded nats kafka
KILLS ?= 200
FAULTS ?= 600
ROUNDS ?= 1
SEED ?=
KAFKA ?=
CHAOS ?=

chaos: build ## kill workers again and again, on each bus; at the end everything must be right
	@for bus in $(BUSES); do for round in $$(seq $(ROUNDS)); do \
	  $(TARGET)/debug/chaos --bus $$bus --kills $(KILLS) --seconds $(FAULTS) \
	    $(if $(KAFKA),--kafka $(KAFKA)) \
	    $(if $(SEED),--seed $$(($(SEED) + round - 1))) $(CHAOS) || exit 1; \
	done; done

lint: ## format and clippy, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings

docs: ## the API documentation
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

# Rows of the first loads, what else the harness is told, what it is told of the buses, and what the
# program that times takeovers is told.
ROWS ?= 1000000 10000000
BENCH ?=
BUS ?=
TAKEOVER ?=

takeover: build ## kill the owner of a large table, and time who goes on with it
	@for rows in $(ROWS); do $(TARGET)/debug/takeover --rows $$rows $(TAKEOVER) || exit 1; done

bench: build ## rows a second to the fsync, with the peers beside it; then the buses
	@for rows in $(ROWS); do benches/run.sh compare --rows $$rows $(BENCH) || exit 1; done
	@benches/run.sh bus $(BUS)

bench-bus: build ## records a second onto each bus and back
	@benches/run.sh bus $(BUS)

bench-flat: build ## the cost of a batch as the table grows
	@benches/run.sh flat $(BENCH)

bench-commits: build ## time and memory over 10,000 commits
	@benches/run.sh commits $(BENCH)

bench-index: build ## disk and memory of the key index
	@benches/run.sh index $(BENCH)

bench-all: ## all of these, one after the other
	@$(MAKE) --no-print-directory -j1 bench bench-flat bench-commits bench-index
