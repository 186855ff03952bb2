#!/bin/bash
# Entrypoint: start tailscaled, then become what the container is to run.
/usr/local/sbin/tailscaled-devcontainer-start
unset TS_AUTH_KEY
exec "$@"
