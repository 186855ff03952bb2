# make demo    a drone from nothing, on a test world of four machines
# make test    everything; make check is the part that needs no Docker
# make bench   the figures, as ratios
# make install hatchery into DESTDIR and PREFIX

PREFIX ?= /usr/local
CARGO ?= cargo

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

install: build
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin \
	  target/release/hatchery target/release/hatchery-credd target/release/hatchery-drone

clean:
	$(CARGO) clean
