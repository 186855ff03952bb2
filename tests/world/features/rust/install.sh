#!/bin/sh
# Stand-in: cargo alone. It fetches dependencies without the compiler, which is large.
set -eu
install -D -m 755 "$(dirname "$0")/cargo" /usr/local/cargo/bin/cargo
