# `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench outsider clients oracle schemas vectors fuzz fuzz-short mutants generate tools

CARGO ?= cargo
PROFILE ?= dev
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
CARGO_DENY_VERSION := 0.20.2
CARGO_MACHETE_VERSION := 0.9.2
CARGO_FUZZ_VERSION := 0.13.2
CARGO_MUTANTS_VERSION := 27.1.0
# Fuzzing needs a nightly compiler; nothing else does.
FUZZ_CARGO ?= cargo +nightly
FUZZ_SECONDS ?= 3600

help: ## Lists the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

demo: ## A whole mesh on this machine: three services, every attack, nothing left behind
	$(CARGO) build --locked -q --bins -p operator -p sidecar -p fapictl
	$(TARGET_DIR)/debug/fapictl demo $(DEMO_FLAGS)

test: ## Everything that needs only Rust
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked --workspace

check: ## Formatting, clippy, docs, bans, licences, sources, unused dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	$(CARGO) deny --locked check bans licenses sources
	$(CARGO) machete
	$(CARGO) test --locked -q -p e2e --test tidy --test tidy_docs

outsider: ## A Python program that uses none of our code enrols, calls and attacks
	$(CARGO) build --locked -q --workspace --bins
	tests/outsider/run $(TARGET_DIR)/debug

clients: ## OAuth clients written by others get tokens and call (needs Node 20 and Java 17)
	$(CARGO) build --locked -q --workspace --bins
	tests/clients/run $(TARGET_DIR)/debug

oracle: ## A second implementation of the decision, in Python, judges 20000 generated requests (ORACLE_FLAGS="CASES SEED")
	$(CARGO) build --locked -q -p fapi --example decide
	tests/outsider/run-oracle $(TARGET_DIR)/debug $(ORACLE_FLAGS)

schemas: ## Injected pods against the schemas of Kubernetes 1.33 to 1.37 (needs Python 3.11)
	tests/schemas/run $(abspath $(TARGET_DIR))

vectors: ## Mints the vectors of tests/vectors anew, by other libraries (needs Node, Python, a JDK, mvn, openssl, jq, xxd)
	tests/vectors/generate $(TARGET_DIR)/vectors

fuzz: ## Each fuzz target for FUZZ_SECONDS (needs a nightly compiler and `make tools`); what it finds is under fuzz/artifacts
	fuzz/seed
	for target in $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs))); do \
		CARGO_TARGET_DIR=$(abspath $(TARGET_DIR))/fuzz $(FUZZ_CARGO) fuzz run --dev $$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=10 -print_final_stats=0 || exit 1; \
	done

fuzz-short: ## Each fuzz target for 30 seconds
	$(MAKE) fuzz FUZZ_SECONDS=30

mutants: ## Changes the rules of `fapi` one by one; each change must turn a test red (MUTANTS_FLAGS="-f crates/fapi/src/path.rs")
	@$(CARGO) mutants --version | grep -q '$(CARGO_MUTANTS_VERSION)' || { echo "cargo install --locked cargo-mutants@$(CARGO_MUTANTS_VERSION)"; exit 1; }
	$(CARGO) mutants -p fapi --timeout 300 -o $(TARGET_DIR) $(MUTANTS_FLAGS)

bench: ## What the rules and the mesh cost, against bare cryptography and a bare pair (needs wrk and h2load)
	$(CARGO) build --locked --release --bins -p operator -p sidecar -p fapictl -p bench
	$(TARGET_DIR)/release/decide
	$(TARGET_DIR)/release/bench $(BENCH_FLAGS)

generate: ## Rewrites what is generated: CRDs, protocol code, golden files, docs/reasons.md
	UPDATE=1 $(CARGO) test --locked -p crds -p control -p operator
	UPDATE=1 $(CARGO) test --locked -p e2e --test tidy

tools: ## Installs the tools of `make check` and `make fuzz`
	$(CARGO) install --locked cargo-deny@$(CARGO_DENY_VERSION) cargo-machete@$(CARGO_MACHETE_VERSION) \
		cargo-fuzz@$(CARGO_FUZZ_VERSION)
