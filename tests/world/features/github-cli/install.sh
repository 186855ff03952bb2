#!/bin/sh
# Stand-in: installs the gh that the world built.
set -eu
install -m 755 "$(dirname "$0")/gh" /usr/bin/gh
