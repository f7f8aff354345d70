# Two commands do everything: `make demo` and `make test`. Both set up what they need first, and
# both use the same build of the dependencies.

CARGO ?= cargo
# One target folder for all: set CARGO_TARGET_DIR to keep it elsewhere.
TARGET := $(or $(CARGO_TARGET_DIR),target)
ALLUVIUM := $(TARGET)/debug/alluvium

.PHONY: demo test lint docs bench setup readers build help

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

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

lint: ## format and clippy, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings

docs: ## the API documentation
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

# Full optimisation for our own hot crates too: in the shared profile it would make their tests slow
# to build.
HOT := $(foreach crate,layers lake bus,--config profile.dev.package.alluvium-$(crate).opt-level=3)

bench: setup ## rows a second, counted to the fsync
	@$(CARGO) build --locked --workspace --bins $(HOT)
	@benches/run.sh
