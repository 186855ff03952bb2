#!/bin/sh
# Stand-in: the go command alone. It fetches modules without the rest of the toolchain, which is large.
set -eu
here=$(dirname "$0")
install -D -m 755 "$here/go" /usr/local/go/bin/go
install -m 644 "$here/go.env" "$here/VERSION" /usr/local/go/
