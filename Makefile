# A thin index of commands; each line is what you would type yourself.
CARGO ?= cargo
ARGS ?=

.PHONY: demo test bench faults lint build

demo: ## A server with TLS, a tour of the main job, and commands to try in a second terminal (ARGS=--once: only the tour)
	$(CARGO) build -q --release -p strongroom-server -p strongroom -p strongroom-tests
	target/release/demo $(ARGS)

test: ## Installs what the tests need and runs them all
	./tests/install-needs
	$(CARGO) test --workspace --locked

bench: ## Speed, against baselines in the same run (ARGS=--quick: under a minute)
	$(CARGO) run --release -p strongroom-tests --bin bench -- $(ARGS)

faults: ## What must never happen, tried many times (ARGS=--long before a release)
	$(CARGO) build -q --release -p strongroom-server -p strongroom
	$(CARGO) run --release -p strongroom-tests --bin faults -- $(ARGS)

lint: ## Formatting, lints, docs
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

build: ## Server and command line, optimised
	$(CARGO) build --release --locked -p strongroom-server -p strongroom
