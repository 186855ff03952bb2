# What the published script does with apt: sshd on its port, started by the entrypoint of its name.
if ! has sshd; then
    case $manager in
        dnf | microdnf | yum) add openssh-server openssh-clients ;;
        *) add openssh ;;
    esac
fi
if ! sshd=$(command -v sshd); then
    echo "hatchery: this image has no sshd after $manager was asked for one" >&2
    exit 1
fi

# What openSUSE ships counts only where /etc says nothing.
for pair in ssh/sshd_config:/usr/etc pam.d/sshd:/usr/lib; do
    file=${pair%%:*}
    if ! [ -e "/etc/$file" ] && [ -e "${pair#*:}/$file" ]; then
        mkdir -p "/etc/${file%/*}"
        cp "${pair#*:}/$file" "/etc/$file"
    fi
done

# sshd takes the first value of an option, but all ports.
config=/etc/ssh/sshd_config
mkdir -p /etc/ssh /run/sshd
touch "$config"
{
    echo "Port ${SSHD_PORT:-2222}"
    echo "GatewayPorts ${GATEWAYPORTS:-no}"
    sed '/^[[:space:]]*[Pp][Oo][Rr][Tt][[:space:]=]/d' "$config"
} > "$config.new"
cat "$config.new" > "$config"
rm "$config.new"
ssh-keygen -A

# A container may not say who has logged in.
if [ -e /etc/pam.d/sshd ]; then
    sed -i 's/^\(session[[:space:]]*\)required\([[:space:]]*pam_loginuid\)/\1optional\2/' /etc/pam.d/sshd
fi

mkdir -p /usr/local/share
cat > /usr/local/share/ssh-init.sh << END
#!/bin/sh
# Starts sshd, as root or through sudo, then becomes what the container is to run.
if [ "\$(id -u)" -eq 0 ]; then sudo=; else sudo=sudo; fi
\$sudo mkdir -p /run/sshd
\$sudo $sshd 2>&1 | \$sudo tee /tmp/sshd.log > /dev/null
exec "\$@"
END
chmod 755 /usr/local/share/ssh-init.sh
