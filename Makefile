# `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench outsider oracle vectors generate tools

CARGO ?= cargo
PROFILE ?= dev
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
CARGO_DENY_VERSION := 0.20.2
CARGO_MACHETE_VERSION := 0.9.2

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
	$(CARGO) test --locked -q -p e2e --test tidy

outsider: ## A Python program that uses none of our code enrols, calls and attacks
	$(CARGO) build --locked -q --workspace --bins
	tests/outsider/run $(TARGET_DIR)/debug

oracle: ## A second implementation of the decision, in Python, judges 20000 generated requests (ORACLE_FLAGS="CASES SEED")
	$(CARGO) build --locked -q -p fapi --example decide
	tests/outsider/run-oracle $(TARGET_DIR)/debug $(ORACLE_FLAGS)

vectors: ## Mints the vectors of tests/vectors anew, by other libraries (needs Node, Python, a JDK, mvn, openssl, jq, xxd)
	tests/vectors/generate $(TARGET_DIR)/vectors

bench: ## What the mesh costs, against a bare hyper + rustls pair (needs wrk and h2load)
	$(CARGO) build --locked --release --bins -p operator -p sidecar -p fapictl -p bench
	$(TARGET_DIR)/release/bench $(BENCH_FLAGS)

generate: ## Rewrites what is generated: CRDs, protocol code, golden files, docs/reasons.md
	UPDATE=1 $(CARGO) test --locked -p crds -p control -p operator
	UPDATE=1 $(CARGO) test --locked -p e2e --test tidy

tools: ## Installs the tools of `make check`
	$(CARGO) install --locked cargo-deny@$(CARGO_DENY_VERSION) cargo-machete@$(CARGO_MACHETE_VERSION)
