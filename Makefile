# `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench outsider clients servers oracle schemas vectors fuzz fuzz-short loom flips mutants mutants-changed generate tools \
	cluster-programs cluster-able cluster cluster-down test-cluster before-able images images-before

CARGO ?= cargo
PROFILE ?= dev
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
CARGO_DENY_VERSION := 0.20.2
CARGO_MACHETE_VERSION := 0.9.2
CARGO_FUZZ_VERSION := 0.13.2
CARGO_MUTANTS_VERSION := 27.1.0
# Fuzzing needs a nightly compiler; nothing else does.
FUZZ_TOOLCHAIN ?= nightly-2026-05-20
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
FUZZ_SECONDS ?= 3600
# The commit of which docs/mutants.md tells; where the history does not go back so far, the one before.
MUTANTS_BASE ?= $(shell base=$$(sed -n 's/^Whole at commit `\(.*\)`.*/\1/p' docs/mutants.md); git rev-parse -q --verify "$$base^{commit}" || echo HEAD~1)
# What upgrades begin with: a state that was published. Where the history does not go back so far, the commit before.
BEFORE_COMMIT ?= $(shell git rev-parse -q --verify ea01244^{commit} || git rev-parse -q --verify HEAD~1)
BEFORE = $(abspath $(TARGET_DIR))/before
# Programs in images load no libraries: there are none beside them, and nobody who reads line tables. Naming the target keeps build
# scripts out of this.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
STATIC = -C target-feature=+crt-static -C strip=debuginfo
IMAGES_PROFILE ?= release
VERSION = $(shell sed -n '/workspace.package/,/^$$/s/^version = "\(.*\)"/\1/p' Cargo.toml)

help: ## Lists the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

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

servers: ## An authorization server written by others issues the tokens of a mesh (needs Node 20)
	$(CARGO) build --locked -q --workspace --bins
	tests/servers/run $(TARGET_DIR)/debug

oracle: ## A second implementation of the decision, in Python, judges 20000 generated requests (ORACLE_FLAGS="CASES SEED")
	$(CARGO) build --locked -q -p fapi --example decide
	tests/outsider/run-oracle $(TARGET_DIR)/debug $(ORACLE_FLAGS)

schemas: ## Injected pods against the schemas of Kubernetes 1.33 to 1.37 (needs Python 3.11)
	tests/schemas/run $(abspath $(TARGET_DIR))

vectors: ## Mints the vectors of tests/vectors anew, by other libraries (needs Node, Python, a JDK, mvn, openssl, jq, xxd)
	tests/vectors/generate $(TARGET_DIR)/vectors

fuzz: ## Each fuzz target for FUZZ_SECONDS (needs `make tools`; fetches a nightly compiler); what it finds is under fuzz/artifacts
	rustup toolchain list | grep -q '^$(FUZZ_TOOLCHAIN)' || rustup toolchain install --profile minimal --no-self-update $(FUZZ_TOOLCHAIN)
	fuzz/seed
	for target in $(FUZZ_TARGETS); do \
		CARGO_TARGET_DIR=$(abspath $(TARGET_DIR))/fuzz cargo +$(FUZZ_TOOLCHAIN) fuzz run --dev $$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=10 -print_final_stats=0 || exit 1; \
	done

fuzz-short: ## Each fuzz target for 30 seconds
	$(MAKE) fuzz FUZZ_SECONDS=30

loom: ## Every interleaving of a few threads at what they share, by a model checker
	CARGO_TARGET_DIR=$(abspath $(TARGET_DIR))/loom RUSTFLAGS="--cfg loom" $(CARGO) test --locked -q -p fapi --lib replay::models
	CARGO_TARGET_DIR=$(abspath $(TARGET_DIR))/loom RUSTFLAGS="--cfg loom" $(CARGO) test --locked -q -p models

flips: ## A million requests with one flipped bit in token or proof: none may be admitted (two minutes)
	FAPI_FLIPS=1000000 $(CARGO) test --locked -q -p fapi --test vectors flipped

mutants: ## Changes the rules of `fapi` one by one; each change must turn a test red (MUTANTS_FLAGS="-f crates/fapi/src/path.rs")
	@$(CARGO) mutants --version | grep -q '$(CARGO_MUTANTS_VERSION)' || { echo "cargo-mutants $(CARGO_MUTANTS_VERSION) is missing: make tools"; exit 1; }
	$(CARGO) mutants -p fapi --timeout 300 -o $(TARGET_DIR) $(MUTANTS_FLAGS)

mutants-changed: ## The same for the lines that changed since docs/mutants.md was written
	git diff $(MUTANTS_BASE) -- crates/fapi/src > $(TARGET_DIR)/changed.diff
	[ ! -s $(TARGET_DIR)/changed.diff ] || $(MAKE) mutants MUTANTS_FLAGS="--in-diff $(TARGET_DIR)/changed.diff -C=--lib"

bench: ## What the rules and the mesh cost, against bare cryptography and a bare pair (needs wrk and h2load)
	$(CARGO) build --locked --release --bins -p operator -p sidecar -p fapictl -p bench
	$(TARGET_DIR)/release/decide
	$(CARGO) test --locked --release -q -p operator --lib -- --ignored --nocapture scale
	$(TARGET_DIR)/release/bench $(BENCH_FLAGS)

cluster-programs: ## Builds Kubernetes, etcd, CoreDNS and Helm from pinned sources (needs Go; 15 minutes the first time)
	tests/cluster/build $(TARGET_DIR)/cluster/bin

# Named before anything is built: Kubernetes alone takes a quarter of an hour.
cluster-able:
	@$(CARGO) build --locked -q -p e2e --bin cluster
	@$(TARGET_DIR)/debug/cluster able

cluster: cluster-able ## A Kubernetes of one node on this machine, for you; prints its KUBECONFIG and CONTAINERD_ADDRESS (needs Linux, root, containerd)
	@$(MAKE) cluster-programs
	@$(TARGET_DIR)/debug/cluster up

cluster-down: ## Takes it down, and what tests that were ended have left
	@$(CARGO) build --locked -q -p e2e --bin cluster
	@$(TARGET_DIR)/debug/cluster down

test-cluster: cluster-able before-able ## Tests on a real Kubernetes; what a failing one leaves is named
	$(MAKE) cluster-programs
	$(CARGO) build --locked --workspace --bins
	$(MAKE) images-before
	$(MAKE) images IMAGES_PROFILE=dev
	rm -rf $(TARGET_DIR)/cluster/asked
	$(CARGO) test --locked -p e2e --test cluster -- --ignored --test-threads 2
	$(TARGET_DIR)/debug/cluster rights

# Named before anything is built, as well.
before-able:
	@[ -n "$(BEFORE_COMMIT)" ] || { echo "upgrades begin with an earlier commit, and git shows none here: git fetch --unshallow, or clone" \
		"the repository where it came without its history" >&2; exit 1; }

images: ## Images of operator, sidecar and fapictl as OCI archives, without a container engine (needs Linux, glibc 2.34 or later)
	@images/pack --able
	RUSTFLAGS="$(STATIC)" $(CARGO) build --locked --profile $(IMAGES_PROFILE) --target $(HOST) \
		--bin fapi-operator --bin fapi-sidecar --bin fapictl
	for name in fapi-operator fapi-sidecar fapictl; do \
		images/pack fapi-mesh.dev/$$name:$(VERSION) $(TARGET_DIR)/images/$$name.tar \
			$(TARGET_DIR)/$(HOST)/$(subst dev,debug,$(IMAGES_PROFILE))/$$name 65532 || exit 1; \
	done

# In the same folder as `images`: the dependencies are compiled once.
images-before: before-able ## Charts and images of an earlier commit, of operator and sidecar, for tests of upgrades
	RUSTFLAGS="$(STATIC)" tests/cluster/before "$(BEFORE_COMMIT)" $(BEFORE) $(abspath $(TARGET_DIR)) $(HOST)

generate: ## Rewrites what is generated: CRDs, their reference, protocol code, golden files, docs/reasons.md
	UPDATE=1 $(CARGO) test --locked -p crds -p control -p operator
	UPDATE=1 $(CARGO) test --locked -p e2e --test tidy

tools: ## Installs the tools of `make check`, `make fuzz` and `make mutants`
	$(CARGO) install --locked cargo-deny@$(CARGO_DENY_VERSION) cargo-machete@$(CARGO_MACHETE_VERSION) \
		cargo-fuzz@$(CARGO_FUZZ_VERSION) cargo-mutants@$(CARGO_MUTANTS_VERSION)
