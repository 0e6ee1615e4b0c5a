# Only an index: the logic is in xtask/.
# Built dependencies are shared between checkouts.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/boatyard/target

.PHONY: build check test test-vm demo bench clean
build:
	cargo build --package boatyard-cli
check test test-vm demo bench:
	cargo xtask $@ $(ARGS)
clean:
	cargo clean
