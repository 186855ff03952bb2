# make demo    a drone from nothing, on a test world of four machines
# make test    everything, or ONLY=spawn,many@20 of its scenarios; make check needs no Docker
# make test-vm scenarios with the server as a computer that QEMU emulates: under an hour
# make test-readme follows README on a server where nothing is installed: ten minutes
# make bench   the figures, as ratios
# make build   what is installed; make quick is the same without optimization, for the test world
# make install hatchery into DESTDIR and PREFIX

PREFIX ?= /usr/local
# polkit reads its rules here whatever PREFIX is; a package says /usr/share/polkit-1/rules.d.
POLKIT ?= /etc/polkit-1/rules.d
CARGO ?= cargo
PROFILE ?= release
# How cargo compiles: `make test` has it compile a test, and the programs with it.
COMPILE ?= build
BUILT = target/$(PROFILE:dev=debug)
BINARIES ?= $(BUILT)

HOST = $(shell rustc -vV | sed -n 's/^host: //p')
UNITS = $(wildcard systemd/hatchery*.service systemd/hatchery*.socket systemd/hatchery*.timer)
SHARED = $(DESTDIR)$(PREFIX)/share
# FILE... DIRECTORY: the files name programs under /usr/local.
INSTALL_TEXT = systemd/install $(PREFIX)

.PHONY: demo demo-down test test-vm test-readme check bench build quick install clean

demo:
	@tests/prepare
	@tests/demo

demo-down:
	@tests/world/world down

test:
	@tests/prepare
	@tests/all

# What units, limits, the firewall and Docker do on a kernel of the server's own.
test-vm:
	@tests/prepare
	@$(MAKE) --silent build
	@HATCHERY_WORLD_ENGINE=vm HATCHERY_WORLD_BINARIES=$(CURDIR)/target/release \
	  tests/world/world run --fresh empty spawn memory services members firewall power_cut

# README followed on a server where nothing is installed.
test-readme:
	@tests/prepare
	@$(MAKE) --silent quick
	@tests/readme

check:
	@tests/all --without-world

bench:
	@tests/prepare
	@$(MAKE) --silent build
	@HATCHERY_WORLD_BINARIES=$(CURDIR)/target/release tests/bench

build:
	$(CARGO) $(COMPILE) --locked --profile $(PROFILE)
	$(CARGO) rustc --locked --profile $(PROFILE) --no-default-features --bin hatchery-drone \
	  --target $(HOST) --target-dir target/static -- -C target-feature=+crt-static
	install -D -m 0755 -t $(BUILT)/static $(BUILT:target/%=target/static/$(HOST)/%)/hatchery-drone

quick:
	@$(MAKE) --no-print-directory build PROFILE=dev

# What `make build` has built; as root, with the units, which are then to be enabled.
install:
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(BINARIES)/hatchery $(BINARIES)/hatchery-credd
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/libexec/hatchery $(BINARIES)/static/hatchery-drone
	$(INSTALL_TEXT) $(UNITS) $(DESTDIR)$(PREFIX)/lib/systemd/system
	set -e; for of in systemd/*.d; do \
	  $(INSTALL_TEXT) $$of/*.conf $(DESTDIR)$(PREFIX)/lib/systemd/system/$${of#systemd/}; done
	$(INSTALL_TEXT) systemd/hatchery.nft $(DESTDIR)$(PREFIX)/share/hatchery
	install -D -m 0644 systemd/hatchery.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/hatchery.conf
	install -D -m 0644 systemd/hatchery.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/hatchery.conf
	install -D -m 0644 systemd/hatchery.polkit.rules $(DESTDIR)$(POLKIT)/50-hatchery.rules
	install -d $(SHARED)/man/man1 $(SHARED)/bash-completion/completions $(SHARED)/zsh/site-functions \
	  $(SHARED)/fish/vendor_completions.d
	$(BINARIES)/hatchery man-pages $(SHARED)/man/man1
	$(BINARIES)/hatchery completions bash > $(SHARED)/bash-completion/completions/hatchery
	$(BINARIES)/hatchery completions zsh > $(SHARED)/zsh/site-functions/_hatchery
	$(BINARIES)/hatchery completions fish > $(SHARED)/fish/vendor_completions.d/hatchery.fish

clean:
	$(CARGO) clean
