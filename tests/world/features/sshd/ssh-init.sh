#!/bin/bash
# Entrypoint: start sshd, as root or through sudo, then become what the container is to run.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

as_root /etc/init.d/ssh start 2>&1 | as_root tee /tmp/sshd.log > /dev/null

exec "$@"
