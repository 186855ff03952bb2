# make demo    a drone from nothing, on a test world of four machines
# make test    everything; make check is the part that needs no Docker
# make bench   the figures, as ratios
# make install hatchery into DESTDIR and PREFIX

PREFIX ?= /usr/local
# polkit reads its rules here whatever PREFIX is; a package says /usr/share/polkit-1/rules.d.
POLKIT ?= /etc/polkit-1/rules.d
CARGO ?= cargo
BINARIES ?= target/release

HOST = $(shell rustc -vV | sed -n 's/^host: //p')
UNITS = $(wildcard systemd/hatchery*.service systemd/hatchery*.socket systemd/hatchery*.timer)
# FILE... DIRECTORY: the files name programs under /usr/local.
INSTALL_TEXT = systemd/install $(PREFIX)

.PHONY: demo demo-down test check bench build install clean

demo:
	@tests/prepare
	@tests/demo

demo-down:
	@tests/world/world down

test:
	@tests/prepare
	@tests/all

check:
	@tests/all --without-world

bench:
	@tests/prepare
	@tests/bench

build:
	$(CARGO) build --locked --release
	$(CARGO) rustc --locked --release --no-default-features --bin hatchery-drone \
	  --target $(HOST) --target-dir target/static -- -C target-feature=+crt-static
	install -D -m 0755 -t $(BINARIES)/static target/static/$(HOST)/release/hatchery-drone

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

clean:
	$(CARGO) clean
