# Sourced by bin/farm and bin/test, with $root set: finds or makes the environment they run in.
#
# Set FARM_VENV to have it elsewhere than in .venv, FARM_PYTHON to choose the Python it is made with.

say() { printf 'farm: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

# Leaves in $bin the folder of an environment in which this farm and the extras ($1) are installed:
# an active one, the one that `python3` on PATH belongs to, or our own, made or renewed as needed.
use_environment() {
    extras=$1
    if [ -z "${FARM_VENV:-}" ]; then
        bin=${VIRTUAL_ENV:-/nowhere}/bin
        if is_installed; then return; fi
        bin=$(command -v python3 || true)
        bin=${bin%/*}
        if is_installed; then return; fi
    fi
    venv=${FARM_VENV:-$root/.venv}
    bin=$venv/bin
    # What was installed is told by a stamp, which costs 3 ms a start where asking pip costs 500.
    wanted="$root $(cat "$root/setup.cfg" "$root/etc/constraints.txt" | sha256sum)"
    if ! is_current; then install_farm; fi
}

# Whether farm's own script is in $bin (another project's `farm` isn't it). The tests also need
# their tools, and that it is this very checkout which is tested.
is_installed() {
    [ -x "$bin/farm" ] && grep -q 'farm\.__main__' "$bin/farm" || return 1
    case $extras in
        *fuzz*) "$bin/python" -c 'import atheris' 2>/dev/null || return 1 ;;
        test) ;;
        *) return 0 ;;
    esac
    [ -x "$bin/pytest" ] && [ -x "$bin/ruff" ] && [ -x "$bin/mypy" ] || return 1
    [ "$(cd / && "$bin/python" -P -c 'import farm, jsonschema, opentelemetry.sdk, playwright, starlette, xdist; print(farm.__path__[0])' 2>/dev/null)" = \
        "$root/farm" ]
}

is_current() {
    [ -x "$bin/farm" ] && [ -x "$bin/python" ] && [ -f "$venv/stamp-$extras" ] &&
        [ "$(cat "$venv/stamp-$extras")" = "$wanted" ]
}

install_farm() {
    mkdir -p "$venv" && [ -w "$venv" ] ||
        die "$venv can't be made: run this once as the owner of $root, or set FARM_VENV=FOLDER"
    # Two first starts at once would install over each other.
    if command -v flock >/dev/null; then
        exec 9>"$venv/lock"
        flock -n 9 || { say "another start is setting up $venv: waiting for it"; flock 9; }
    fi
    if ! is_current; then
        if [ -e "$venv/stamp-$extras" ]; then say "setup.cfg or the constraints changed"; fi
        rm -f "$venv"/stamp-*
        "$bin/python" -m pip --version >/dev/null 2>&1 || make_venv
        cure="no network, or a proxy? See HTTPS_PROXY and PIP_INDEX_URL; then start again"
        quietly "installing packages (PyTorch is large)" "$cure" \
            "$bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
            -c "$root/etc/constraints.txt" -e "$root[$extras]"
        for each in demo $(echo "$extras" | tr , ' ') "$extras"; do  # test holds those of the demo
            printf '%s\n' "$wanted" >"$venv/stamp-$each"
        done
        say "ready"
    fi
    exec 9>&-
}

make_venv() {
    find_python
    rm -rf "$bin" "$venv/lib" "$venv/lib64" "$venv/include" "$venv/pyvenv.cfg"
    say "first start: setting up $venv"
    quietly "making the environment, $("$python" --version)" "remove $venv and start again" \
        "$python" -m venv "$venv"
}

# Leaves in $python a Python that is new enough and can make environments.
find_python() {
    incomplete=
    for python in ${FARM_PYTHON:-python3.13 python3.12 python3.11 python3}; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        if "$python" -c 'import ensurepip, venv' 2>/dev/null; then return; fi
        incomplete=$python
    done
    if [ -n "$incomplete" ]; then
        version=$("$incomplete" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
        die "$incomplete has no venv and ensurepip; on Debian and Ubuntu: apt install $version-venv"
    fi
    die "Python 3.11 or newer is needed, and none of ${FARM_PYTHON:-python3.13 python3.12" \
        "python3.11 python3} is that: install one, or name it with FARM_PYTHON=/path/to/python"
}

# Runs a command (from $3 on) behind one line of progress, named $1; its output is shown only when
# it fails, followed by the cure $2.
quietly() {
    title=$1 cure=$2
    shift 2
    log=$(mktemp)
    started=$(date +%s)
    [ -t 2 ] || say "$title"
    "$@" >"$log" 2>&1 </dev/null &
    child=$!
    trap 'kill $child 2>/dev/null; rm -f "$log"; exit 130' INT TERM HUP
    while kill -0 $child 2>/dev/null; do
        if [ -t 2 ]; then progress "…"; fi
        sleep 0.2
    done
    if wait $child; then
        if [ -t 2 ]; then progress "done"; printf '\n' >&2; fi
    else
        if [ -t 2 ]; then printf '\n' >&2; fi
        cat "$log" >&2
        rm -f "$log"
        die "$title failed: $cure"
    fi
    trap - INT TERM HUP
    rm -f "$log"
}

progress() {
    packages=$(grep -c '^Collecting' "$log" || true)
    if [ "$packages" -gt 0 ]; then packages=", $packages packages"; else packages=; fi
    printf '\r\033[Kfarm: %s: %d s%s %s' "$title" $(($(date +%s) - started)) "$packages" "$1" >&2
}

# Puts mosquitto, its clients and openssl on PATH for the tests: what is missing, root installs. With
# it come strace, libfaketime and prometheus, without which the tests of failing disks, set clocks and
# alerts are skipped, and zsh and fish, whose completion is tested where they are.
use_mosquitto() {
    PATH=$PATH:/usr/sbin:/usr/local/sbin
    needed="mosquitto mosquitto-clients openssl strace libfaketime prometheus zsh fish"
    is_enough=
    if command -v mosquitto >/dev/null && command -v mosquitto_sub >/dev/null &&
        command -v openssl >/dev/null; then is_enough=yes; fi
    if [ "$is_enough" ] && command -v strace >/dev/null && command -v promtool >/dev/null &&
        command -v zsh >/dev/null && command -v fish >/dev/null &&
        ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1; then return; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        if [ "$is_enough" ]; then return; fi
        die "the tests need mosquitto on PATH; on Debian and Ubuntu: sudo apt install $needed" \
            "(and sudo systemctl disable --now mosquitto prometheus: the tests start their own)"
    fi
    quietly "installing mosquitto and prometheus" "apt install $needed by hand and start again" install_mosquitto
}

# The tests of the page drive a real browser: what is missing, root installs. Without it they are
# skipped.
use_chromium() {
    for name in chromium chromium-browser google-chrome; do
        if command -v $name >/dev/null; then return; fi
    done
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "without a browser the tests of the page are skipped; on Debian: sudo apt install chromium"
        return
    fi
    quietly "installing chromium" "apt install chromium by hand and start again" install_chromium
}

install_chromium() (
    set -e
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        chromium fonts-dejavu-core
)

# The packages start services on ports 1883 and 9090 at once and at boot; the tests want neither.
install_mosquitto() (
    set -e
    policy=/usr/sbin/policy-rc.d # invoke-rc.d and deb-systemd-invoke ask it before they start one
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        trap 'exit 1' INT TERM HUP
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $needed
    if [ -d /run/systemd/system ]; then systemctl disable --now mosquitto prometheus; fi
)
