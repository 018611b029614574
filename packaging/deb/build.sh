#!/bin/sh
# packaging/deb/build.sh OUTDIR: builds python3-flare, flared and flarectl from this source into OUTDIR.
#
# On Debian 12 or newer. As root it installs what the build needs; for other users it prints the command.
# FLARE_VERSION=1.2.3 builds the same source under another version, to try an upgrade.
set -eu
[ $# -eq 1 ] && [ -n "$1" ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }

source=$(cd "$(dirname "$0")/../.." && pwd)

die() { echo "packaging/deb/build.sh: $*" >&2; exit 1; }

# dpkg-checkbuilddeps names what is missing; it comes with dpkg-dev, which apt's build-dep installs as well.
has_build_dependencies() {
    command -v dpkg-buildpackage >/dev/null && dpkg-checkbuilddeps "$source/packaging/deb/debian/control" 2>/dev/null
}

need_build_dependencies() {
    command -v apt-get >/dev/null || die "packages are built on Debian 12 or newer; this machine has no apt-get"
    install="apt-get build-dep --yes --no-install-recommends '$source/packaging/deb'"
    [ "$(id -u)" = 0 ] || die "build dependencies are missing. Type this, then run me again: sudo $install"
    echo "installing the build dependencies: $install" >&2
    apt-get update --quiet >&2
    DEBIAN_FRONTEND=noninteractive apt-get build-dep --yes --no-install-recommends "$source/packaging/deb" >&2 ||
        die "this failed: $install"
}

has_build_dependencies || need_build_dependencies
mkdir -p "$1"
out=$(cd "$1" && pwd)
stage=$(mktemp -d "${TMPDIR:-/var/tmp}/flare-deb.XXXXXX")
trap 'rm -rf "$stage"' EXIT

# What git does not ignore, as it is now; without git, everything but what is never part of the source.
mkdir "$stage/flare"
cd "$source"
if [ -e .git ]; then
    git ls-files -z --cached --others --exclude-standard | tar -cf - --null --ignore-failed-read -T - 2>/dev/null | tar -C "$stage/flare" -xf -
else
    tar -cf - --exclude=.venv --exclude=.venv-floor --exclude=__pycache__ . | tar -C "$stage/flare" -xf -
fi
cp -a "$stage/flare/packaging/deb/debian" "$stage/flare/debian"

cd "$stage/flare"
if [ -n "${FLARE_VERSION:-}" ]; then
    sed -i "1s/(.*)/($FLARE_VERSION)/" debian/changelog
    sed -i "s/^__version__ = .*/__version__ = \"$FLARE_VERSION\"/" flared/__init__.py
fi
# Nothing of a virtual environment or of the caller's own packages gets into the build.
env -u PYTHONPATH -u PYTHONHOME -u VIRTUAL_ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    dpkg-buildpackage --unsigned-source --unsigned-changes --build=binary
cp -t "$out" "$stage"/*.deb "$stage"/*.buildinfo "$stage"/*.changes
ls -l "$out"
