#!/bin/bash
# Stand-in for the published feature. As there: port 2222, host keys in the image, root may log in
# with a key, the remote user is in the group `ssh`, no key is authorized, and passwords are left
# as the distribution has them.
set -euo pipefail

if ! [ -x /usr/sbin/sshd ]; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends openssh-server openssh-client lsof
    rm -rf /var/lib/apt/lists/*
fi
ssh-keygen -A
mkdir -p /run/sshd

getent group ssh > /dev/null || groupadd ssh
user=${_REMOTE_USER:-root}
if [ "$user" != root ] && id "$user" > /dev/null 2>&1; then
    usermod -aG ssh "$user"
fi

set_option() {
    sed -i -E "/^[#[:space:]]*$1[[:space:]]/d" /etc/ssh/sshd_config
    echo "$1 $2" >> /etc/ssh/sshd_config
}
set_option Port 2222
set_option PermitRootLogin yes
set_option UsePAM yes
set_option GatewayPorts "${GATEWAYPORTS:-no}"
sed -i -E 's/^(session[[:space:]]+)required([[:space:]]+pam_loginuid\.so)/\1optional\2/' /etc/pam.d/sshd

install -m 755 "$(dirname "$0")/ssh-init.sh" /usr/local/share/ssh-init.sh
