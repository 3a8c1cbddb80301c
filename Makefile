# Millrace. `make help` says what there is.

PREFIX  ?= /usr/local
DESTDIR ?=
# Where settings, data, the unit and zsh's completions belong, below DESTDIR.
SYSCONFDIR ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
STATEDIR   ?= /var/lib/millrace
UNITDIR    ?= $(PREFIX)/lib/systemd/system
ZSHDIR     ?= $(PREFIX)/share/zsh/site-functions

SEEDS   ?= 200
FROM    ?= 1
SECONDS ?= 30
SEED    ?= 1
TARGETS ?=
ROUNDS  ?= 10
HOURS   ?= 1
ADDRESS ?= 127.0.0.1:9092
NODE    ?= 4

# Wherever cargo builds: the environment or its configuration may have moved it.
TARGET := $(or $(CARGO_TARGET_DIR),$(shell cargo metadata --format-version=1 --no-deps 2>/dev/null | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'),target)
BIN    := $(TARGET)/release

# The one place of the version, and the commit, with a + if something is different from it; nothing without git. Only
# what is installed knows its commit: a build is not made anew for each.
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
COMMIT  = $(shell git describe --always --abbrev=12 --exclude='*' --dirty=+ 2>/dev/null)

.PHONY: help python3 setup build release install deb container run cluster node test clients conformance crash chaos sim vopr soak bench compare compare-cluster hostile flamegraph profile fuzz fmt lint clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
	@echo "  e.g. make sim SEEDS=1000 FROM=5000; make fuzz SECONDS=300; make run ADDRESS=127.0.0.1:19092"

setup: ## Install what the tests need: system packages and clients, only what is missing
	@tests/setup

build: ## Build all programs, optimized
	cargo build --release --locked

release:
	MILLRACE_COMMIT="$(COMMIT)" cargo build --release --locked

PROGRAMS := millrace millracectl millrace-bench
# Where anything is put has a name of one word, or something else is overwritten or removed.
SPACELESS = $(foreach name,BIN TARGET DESTDIR PREFIX SYSCONFDIR STATEDIR UNITDIR ZSHDIR,$(if $(word 2,$($(name))),$(error $(name) has a space in it: install and deb take none)))
INSTALLED := sed -e 's,@BIN@,$(PREFIX)/bin,' -e 's,@CONFIG@,$(SYSCONFDIR)/millrace/server.properties,' -e 's,@STATE@,$(STATEDIR),'

# Settings that are there stay as they are: the sample lies with the documentation, too. BIN=DIR takes programs that are
# built already.
install: $(if $(filter file,$(origin BIN)),release) ## Put programs, manual, unit and sample settings into PREFIX=/usr/local (DESTDIR= for packages)
	@$(SPACELESS)
	install -D -s -t $(DESTDIR)$(PREFIX)/bin $(addprefix $(BIN)/,$(PROGRAMS))
	set -e; for program in $(PROGRAMS); do \
	  id=$$(readelf -n "$(BIN)/$$program" | sed -n 's/.*Build ID: //p'); \
	  debug=$(DESTDIR)$(PREFIX)/lib/debug/.build-id/$$(printf %.2s "$$id"); install -d "$$debug"; \
	  objcopy --only-keep-debug --compress-debug-sections "$(BIN)/$$program" "$$debug/$${id#??}.debug"; \
	  chmod 644 "$$debug/$${id#??}.debug"; \
	done
	set -e; manual=$$(mktemp -d); trap 'rm -rf "$$manual"' EXIT; \
	for program in $(PROGRAMS); do $(BIN)/$$program --write-manual "$$manual"; done; \
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 "$$manual"/man/*.1; \
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/bash-completion/completions "$$manual"/bash/*; \
	install -D -m 644 -t $(DESTDIR)$(ZSHDIR) "$$manual"/zsh/*; \
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d "$$manual"/fish/*; \
	$(INSTALLED) tools/install/server.properties >"$$manual/server.properties"; \
	$(INSTALLED) tools/install/millrace.service >"$$manual/millrace.service"; \
	$(INSTALLED) tools/install/sysusers.conf >"$$manual/millrace.conf"; \
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/millrace "$$manual/server.properties" README.md CHANGELOG.md \
	  tools/CTL.md tools/SETTINGS.md tools/METRICS.md tools/OPERATING.md; \
	install -D -m 644 -t $(DESTDIR)$(UNITDIR) "$$manual/millrace.service"; \
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/sysusers.d "$$manual/millrace.conf"; \
	config=$(DESTDIR)$(SYSCONFDIR)/millrace/server.properties; \
	test -e "$$config" || install -D -m 644 "$$manual/server.properties" "$$config"

deb: ## Build Debian packages, target/millrace_VERSION_ARCH.deb and millrace-dbgsym_..., from the programs alone
	@$(SPACELESS)
	rm -rf "$(TARGET)/deb"
	$(MAKE) install DESTDIR=$(abspath $(TARGET)/deb) PREFIX=/usr ZSHDIR=/usr/share/zsh/vendor-completions
	tools/install/deb $(abspath $(TARGET)/deb) $(VERSION) $(TARGET)

container: ## Build an image, millrace:VERSION, with ENGINE=podman or docker
	$(or $(ENGINE),$(shell command -v podman || echo docker)) build --build-arg COMMIT="$(COMMIT)" \
	  --file tools/install/Containerfile --tag millrace:$(VERSION) .

run: build ## Start a broker on ADDRESS with its data in ./data
	mkdir -p data
	$(BIN)/millrace --override log.dirs=data --override listeners=PLAINTEXT://$(ADDRESS)

cluster: build ## Start three nodes that form a cluster, for trial: 127.0.0.1:9092, 9093, 9094, data in ./data
	@voters=1@127.0.0.1:19092,2@127.0.0.1:19093,3@127.0.0.1:19094; trap 'kill $$pids; wait' INT TERM; \
	for n in 1 2 3; do \
	  mkdir -p data/node-$$n; \
	  $(BIN)/millrace --override millrace.cluster.preview=true --override node.id=$$n --override millrace.shards=1 \
	    --override process.roles=broker,controller --override controller.quorum.voters=$$voters \
	    --override controller.listener.names=CONTROLLER \
	    --override listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT \
	    --override listeners=PLAINTEXT://127.0.0.1:$$((9091 + n)),CONTROLLER://127.0.0.1:$$((19091 + n)) \
	    --override log.dirs=data/node-$$n & pids="$$pids $$!"; \
	done; wait

node: build ## Start one more node of that cluster, without a vote: NODE=4 is 127.0.0.1:9095, data in ./data
	mkdir -p data/node-$(NODE)
	$(BIN)/millrace --override millrace.cluster.preview=true --override node.id=$(NODE) --override millrace.shards=1 \
	  --override process.roles=broker --override controller.listener.names=CONTROLLER \
	  --override controller.quorum.bootstrap.servers=127.0.0.1:19092,127.0.0.1:19093,127.0.0.1:19094 \
	  --override listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT \
	  --override listeners=PLAINTEXT://127.0.0.1:$$((9091 + $(NODE))),CONTROLLER://127.0.0.1:$$((19091 + $(NODE))) \
	  --override log.dirs=data/node-$(NODE)

# What `tests/all` is written in, and a bare Debian lacks.
python3:
	@command -v python3 >/dev/null || tests/setup

test: python3 ## Everything: setup, build, lint, unit tests, simulator, fuzzing, real clients, kill -9
	@tests/all

clients: build ## Only the real clients (tests/clients/run --help says more)
	@tests/clients/run

conformance: build ## Every client asked to do the same, here and on Apache Kafka: writes tests/conformance/MATRIX.md
	@tests/conformance/run --page

crash: build ## Only the crash tests (tests/crash/run --help says more)
	@tests/crash/run

chaos: build ## ROUNDS=10 rounds of faults on clusters of three and of five nodes; CHAOS_SEED=n repeats a run
	SUITE_SECONDS_MAX=86400 CHAOS_ROUNDS=$(ROUNDS) tests/crash/run chaos

sim: ## Run SEEDS seeds of the simulator, from seed FROM on
	cargo run --release --locked --bin millrace-sim -- --seeds $(SEEDS) --from $(FROM)

vopr: ## HOURS=1 of fresh simulator seeds of clusters with several replicas
	cargo run --release --locked --bin millrace-sim -- --minutes $$(($(HOURS) * 60)) --from $(if $(filter file,$(origin FROM)),$$(date +%s)000,$(FROM)) --shape replicas --keep-going

soak: build ## Hours of simulator seeds, kills and chaos, SEEDS=20000; MINUTES=n: one busy broker, its memory watched
ifdef MINUTES
	tests/soak $(MINUTES)
else
	cargo run --release --locked --bin millrace-sim -- --seeds $(if $(filter file,$(origin SEEDS)),20000,$(SEEDS)) --from $(FROM)
	SUITE_SECONDS_MAX=7200 tests/crash/run --kills 500 kills
	SUITE_SECONDS_MAX=86400 CHAOS_ROUNDS=150 tests/crash/run chaos
endif

bench: build ## Measure this machine: produce, then replay, against a broker of its own
	@tests/bench

compare: setup build ## Millrace beside Apache Kafka, half an hour; QUICK=1: about five minutes; PEERS=1: NATS and nisshi, too
	@perf/setup compare
	$(if $(PEERS),-@perf/setup peers)
	perf/compare $(if $(QUICK),--quick --name quick); status=$$?; perf/report $(if $(QUICK),quick,compare); exit $$status

compare-cluster: setup build ## Three nodes beside three of Apache Kafka: loads, and gaps when nodes die; ten minutes
	@perf/setup compare
	.deps/venv/bin/python perf/cluster --publish

hostile: build ## How long honest clients wait while hostile ones do their worst, under ten minutes
	perf/hostile --publish

flamegraph: build ## CPU flame graph of the broker under WORKLOAD=produce-16, as SVG; OFFCPU=1: where it waits
	@perf/setup profile
	perf/flamegraph $(if $(OFFCPU),--off-cpu) $(or $(WORKLOAD),produce-16)

profile: build ## Syscalls, allocations, waits, top functions and instructions under WORKLOAD=produce-16
	@perf/setup profile
	cargo build --release --locked --example micro
	perf/profile $(or $(WORKLOAD),produce-16)

fuzz: ## Feed damaged bytes to every decoder: SECONDS for each, SEED=1, TARGETS="frame batch"
	cd fuzz && cargo run --release -- run --seconds $(SECONDS) --seed $(SEED) $(TARGETS)

fmt: ## Format the sources
	cargo fmt --all

lint: python3 ## Check format and clippy, warnings are errors
	@tests/all fmt clippy

clean: ## Remove what was built and installed here
	cargo clean
	rm -rf .deps
