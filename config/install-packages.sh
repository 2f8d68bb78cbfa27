#!/bin/sh
# Installs the Debian/Ubuntu packages that Troupe needs and that are missing, and says which.
# With --for-tests also those that only the tests need.
set -eu

packages="containerd runc containernetworking-plugins iptables conntrack ipset busybox-static protobuf-compiler libprotobuf-dev iproute2 ca-certificates"
[ "${1:-}" = "--for-tests" ] && packages="$packages etcd-server etcd-client systemd systemd-container python3-venv"

missing=""
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" != 0 ]; then
    echo "These packages are missing:$missing. Install them, or run this as root." >&2
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    echo "These programs are missing:$missing. This is no Debian or Ubuntu: install them with your package manager." >&2
    exit 1
fi
echo "Installing:$missing"
# Packages must not start daemons of their own: troupe runs containerd itself.
policy=/usr/sbin/policy-rc.d
made_policy=""
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    made_policy=yes
fi
trap '[ -z "$made_policy" ] || rm -f "$policy"' EXIT
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
