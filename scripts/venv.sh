# Sourced by scripts/demo and scripts/test: find a Python, make a virtual environment, install into it once.
# shellcheck shell=bash

say() { printf '== %s\n' "$*" >&2; }

die() { printf '%s\n' "$*" >&2; exit 1; }

is_python() { "$1" -c "import sys; raise SystemExit(not ($2))" >/dev/null 2>&1; }

# Prints the first interpreter for which the condition on sys holds: the distribution's own, which is built with all
# optimisations, before others. Never that of an active virtual environment, which is about to be made anew.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 /usr/bin/python3.11 python3.11 python3 python3.12 python3.13; do
        if is_python "$candidate" "$1"; then
            "$candidate" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))'
            return
        fi
    done
    return 1
}

# What a bare Debian lacks: python3, and the ensurepip that python3-venv brings. Root installs it, others get the command.
need_debian_python() {
    local command='apt-get install -y --no-install-recommends python3 python3-venv'
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing python3-venv"
        apt-get update -q >&2 && DEBIAN_FRONTEND=noninteractive $command >&2 || die "This failed: $command"
    else
        die "Flare needs Python 3.11 or newer with venv. On Debian 12, type this, then run me again: sudo $command"
    fi
}

choose_python() {
    find_python "sys.version_info >= (3, 11) and __import__('ensurepip')" && return
    need_debian_python
    find_python "sys.version_info >= (3, 11) and __import__('ensurepip')" || die "no Python 3.11 or newer was found"
}

# make_venv DIR PYTHON STAMP COMMAND...: DIR is made anew unless the last COMMAND in it ended well with the same STAMP
# and the same pyproject.toml.
make_venv() {
    local dir=$1 python=$2 stamp
    stamp="$3 $("$python" --version 2>&1) $(cksum < pyproject.toml) $PWD"
    shift 3
    if [ "$(cat "$dir/stamp" 2>/dev/null)" = "$stamp" ] && "$dir/bin/python" -c pass 2>/dev/null; then return; fi
    say "setting up $dir with $("$python" --version 2>&1)"
    rm -rf "$dir"
    "$python" -m venv "$dir" || die "python -m venv failed"
    "$@" || die "setting up $dir failed; is the package index reachable?"
    printf '%s' "$stamp" > "$dir/stamp"
}

pip_install() { "$1/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}"; }
