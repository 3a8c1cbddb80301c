# Entry points for people. Everything here is an ordinary cargo command.

SECONDS ?= 30
SEED ?= 1
TARGETS ?=

.PHONY: fuzz
fuzz: ## Feed damaged bytes to every decoder: SECONDS per target, SEED, TARGETS="frame batch"
	cd fuzz && cargo run --release -- run --seconds $(SECONDS) --seed $(SEED) $(TARGETS)
