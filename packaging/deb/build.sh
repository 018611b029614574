#!/bin/sh
# packaging/deb/build.sh OUTDIR: builds python3-flare, flared and flarectl from this source into OUTDIR.
#
# Needs, on Debian 12 or newer: apt-get install dpkg-dev fakeroot and what packaging/deb/debian/control names as
# Build-Depends. FLARE_VERSION=1.2.3 builds the same source under another version, to try an upgrade.
set -eu
[ $# -eq 1 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }

source=$(cd "$(dirname "$0")/../.." && pwd)
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
