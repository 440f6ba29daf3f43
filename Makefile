# A thin index of commands; each line is what you would type yourself. Commands always build the whole workspace: a part of it
# would select other features, and everything below would be built twice.
CARGO ?= cargo
ARGS ?=

.PHONY: demo test bench faults lint build images sbom twice cluster cluster-down cluster-test

demo: ## A server with TLS, a tour of what it does, and commands to try in a second terminal (ARGS=--once: only the tour)
	@echo "Building the server, the command line and the demo; the first time this takes several minutes."
	$(CARGO) build --profile demo --locked -p strongroom-stage -p strongroom -p strongroom-server --bins
	target/demo/demo $(ARGS)

test: ## Installs what the tests need and runs them all
	@echo "The first run builds a real Kubernetes from source, beside this project: on two cores 23 minutes and 13 GB of disk, of which"
	@echo "5 GB stay (CONTRIBUTING.md, The cluster in the tests). Then come the build and the tests, with some 6 GB in target/."
	./tests/install-needs
	$(CARGO) build --workspace --all-targets --locked
	$(CARGO) test --workspace --locked

bench: ## Measures speed against baselines in the same run (ARGS=--quick: under two minutes)
	$(CARGO) build -q --release --workspace --locked
	target/release/bench $(ARGS)

faults: ## Tries many times what must never happen (ARGS=--long before a release)
	$(CARGO) build -q --release --workspace --locked
	target/release/faults $(ARGS)

images: ## Container images of server, driver, command line and example, in target/image
	./tests/install-needs
	deploy/images/build

sbom: ## Lists what is in the images, crate by crate, as SPDX beside them (needs Go)
	deploy/images/sbom

twice: ## Builds the images again elsewhere; fails unless the bits are the same
	deploy/images/twice

cluster: images ## Starts a throw-away Kubernetes with our images; prints its KUBECONFIG
	tests/cluster/up target/image/*.tar

cluster-down: ## Takes it down again
	tests/cluster/down

cluster-test: ## Runs only the tests on a real cluster (ARGS=rotation: some of them)
	./tests/install-needs
	$(CARGO) build --workspace --all-targets --locked
	CI=true $(CARGO) test --workspace --locked --test cluster -- $(ARGS)

lint: ## Formatting, lints, docs
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

build: ## Server and command line, optimised
	$(CARGO) build --profile dist --locked -p strongroom-server -p strongroom -p strongroom-csi
