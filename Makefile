# From a fresh clone: `make demo` shows what hypeman does, `make test` proves it. Both install what is missing.

TARGET := target/x86_64-unknown-linux-gnu

# What a VM needs.
RUN_PACKAGES := qemu-system-x86 e2fsprogs squashfs-tools-ng kmod nftables passt
# What building needs beside Rust: a linker, and the assembler of the test guest.
BUILD_PACKAGES := gcc libc6-dev
# What the demo shows it with, and the tests prove it with.
DEMO_PACKAGES := busybox-static mmdebstrap logrotate
TEST_PACKAGES := docker-registry skopeo apache2-utils socat iproute2 dnsmasq-base curl lintian
# What upstream's clients need, where it does not come from elsewhere: a Python with venv and pip, and npm.
CLIENT_PACKAGES := $(shell python3 -c "import ensurepip, venv" 2>/dev/null || echo python3-venv) \
	$(shell command -v npm >/dev/null || echo nodejs npm)
# Other ways of capturing, beside which ours is measured.
BENCH_PACKAGES := conmon libvirt-daemon

.PHONY: build demo test lint torture threads api-fuzz api-load bench fuzz install deb clean

build:
	cargo build --release --bins -p hypeman -p hypeman-guest

demo:
	@scripts/install.sh $(BUILD_PACKAGES) $(RUN_PACKAGES) $(DEMO_PACKAGES)
	@cargo build --bins -p hypeman -p hypeman-guest # as `make test` does: optimizing takes as long again
	@scripts/demo.sh $(TARGET)/debug/hypeman

test:
	@scripts/install.sh $(BUILD_PACKAGES) $(RUN_PACKAGES) $(DEMO_PACKAGES) $(TEST_PACKAGES) $(CLIENT_PACKAGES)
	@scripts/sdks.sh
	@scripts/promtool.sh
	@scripts/tool.sh cargo-deb 3.8.0
	cargo build --workspace --bins --examples
	cargo test --workspace --no-fail-fast

# What CI asks beside the tests.
lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test -p hypeman-tests --test architecture
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	scripts/deny.sh

# Consoles under all that may befall them, ten minutes long; `make torture SECONDS=60 SEED=...` runs it again as it was.
SECONDS ?= 600
SEED ?=
torture:
	@scripts/install.sh $(BUILD_PACKAGES) $(RUN_PACKAGES) $(DEMO_PACKAGES)
	cargo build --workspace --bins --examples
	HYPEMAN_TORTURE_SECONDS=$(SECONDS) HYPEMAN_TORTURE_SEED=$(SEED) cargo test -p hypeman-tests --test torture

# 500 VMs by 32 threads of one process and by commands beside them.
VMS ?= 500
threads:
	@scripts/install.sh $(BUILD_PACKAGES) $(RUN_PACKAGES) $(DEMO_PACKAGES)
	cargo build --workspace --bins --examples
	HYPEMAN_TEST_VMS=$(VMS) cargo test -p hypeman-tests --test e2e threads

# Requests that schemathesis makes up from the specification, thousands of each kind.
EXAMPLES ?= 500
api-fuzz:
	@scripts/install.sh $(BUILD_PACKAGES) $(RUN_PACKAGES) $(CLIENT_PACKAGES)
	@scripts/sdks.sh
	cargo build --workspace --bins
	HYPEMAN_TEST_API_EXAMPLES=$(EXAMPLES) cargo test -p hypeman-tests --test e2e api::any_request

# Sixteen clients, of the API and of the command line, on the same instances; in `make test` they go on for seconds only.
LOAD_SECONDS ?= 300
api-load:
	@scripts/install.sh $(BUILD_PACKAGES) $(RUN_PACKAGES) $(DEMO_PACKAGES) $(TEST_PACKAGES)
	cargo build --workspace --bins
	HYPEMAN_TEST_API_LOAD_SECONDS=$(LOAD_SECONDS) cargo test -p hypeman-tests --test e2e api_load

bench:
	@scripts/install.sh $(BUILD_PACKAGES) $(RUN_PACKAGES) $(DEMO_PACKAGES) $(TEST_PACKAGES) $(BENCH_PACKAGES)
	cargo build --release --workspace --bins
	cargo bench --workspace

# Ten million inputs for each of those who read what strangers write: archives, a guest's status disk, the shim's socket, a snapshot's
# configuration, both ends of the channel to the agent. Needs a nightly compiler and a C++ one; installs cargo-fuzz below target.
FUZZ := archive status_disk shim_protocol snapshot_config agent_from_guest agent_from_host
RUNS ?= 10000000
fuzz:
	@command -v target/tools/bin/cargo-fuzz >/dev/null || cargo install cargo-fuzz --root target/tools
	for target in $(FUZZ); do \
		mkdir -p target/fuzz/corpus/$$target && \
		PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo +nightly fuzz run --sanitizer none --target-dir target/fuzz \
			$$target target/fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-runs=$(RUNS) -max_len=8192 -rss_limit_mb=256 -timeout=10 || exit 1; \
	done

# Puts the two binaries side by side, where hypeman looks for its init.
PREFIX ?= /usr/local
install: build
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(TARGET)/release/hypeman $(TARGET)/release/hypeman-init
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/lib/systemd/system
	$(TARGET)/release/hypeman man $(DESTDIR)$(PREFIX)/share/man/man1
	for unit in hypeman.service hypeman.socket hypeman-resume.service; do \
		sed 's|@BINDIR@|$(PREFIX)/bin|' packaging/$$unit >$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit || exit; \
	done

# A Debian package, checked, in target/debian.
deb: build
	@mkdir -p target/debian
	scripts/deb.sh release target/debian/
	@command -v lintian >/dev/null && lintian --fail-on error,warning target/debian/*.deb || \
		! command -v lintian >/dev/null

clean:
	cargo clean
