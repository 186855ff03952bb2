#!/bin/sh
# Hatchery's, in front of the published script: that one is for images with apt.
set -eu
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

has() {
    command -v "$1" > /dev/null 2>&1
}

if has apt-get; then
    exec ./hatchery-published.sh
fi

manager=none
for candidate in apk dnf microdnf yum pacman zypper; do
    if has "$candidate"; then
        manager=$candidate
        break
    fi
done

# PACKAGE...
add() {
    case $manager in
        apk) apk add --no-cache "$@" ;;
        dnf | microdnf | yum) "$manager" install -y "$@" ;;
        # Arch supports no package that is newer than the rest.
        pacman) pacman -Syu --noconfirm --needed "$@" ;;
        zypper) zypper --non-interactive install --no-recommends "$@" ;;
        *)
            echo "hatchery: this image has no package manager for $*" >&2
            exit 1
            ;;
    esac
}

