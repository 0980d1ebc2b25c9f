#!/bin/sh
# Shows on real VMs what hypeman promises. `make demo` runs it; it cleans up after itself. Usage: demo.sh PATH/TO/hypeman
set -eu
PATH="$(realpath "$(dirname "$1")"):$PATH" # so that the commands below read as a user would type them

# A data directory that goes away with the demo. Kernel and Debian are kept between runs below target/demo.
cache=$PWD/target/demo
mkdir -p "$cache"
data=$(mktemp -d "$cache/data.XXXXXX")
export HYPEMAN_DATA_DIR="$data"
follower=""
clean_up() {
    [ -z "$follower" ] || kill "$follower" 2>/dev/null || true
    hypeman ps -aq | xargs -r hypeman rm -f >/dev/null || true
    hypeman network ls | awk 'NR > 1 { print $1 }' | xargs -r hypeman network rm >/dev/null || true
    [ ! -d "$data/kernels" ] || { rm -rf "$cache/kernels" && mv "$data/kernels" "$cache/kernels"; }
    rm -rf "$data"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
[ ! -d "$cache/kernels" ] || mv "$cache/kernels" "$data/kernels"

title() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { printf '$ %s\n' "$*"; "$@"; }
# Waits until a file holds a text, with inotify behind `logs -f`; gives up when the VM ends.
wait_for() { hypeman_logs "$1" | grep -m1 -q -- "$2"; }
hypeman_logs() { hypeman logs -f "$1"; }
first_and_last() { sed -n '1p;$p' "$1"; }

title "1. What is here"
hypeman doctor || true

title "2. A VM from an image of Debian's busybox"
[ -n "$(hypeman kernel ls --format json)" ] || show hypeman kernel pull
root=$(mktemp -d "$data/busybox.XXXXXX")
mkdir -p "$root/bin" "$root/etc" "$root/tmp"
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in $(busybox --list); do [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"; done
tar -C "$root" --owner=0 --group=0 -cf "$data/busybox.tar" .
show hypeman image import --name busybox "$data/busybox.tar"
counter='n=0; while :; do echo "line $n"; n=$((n + 1)); usleep 20000; done'
printf '$ hypeman run --name counter busybox sh -c ...   (in the background)\n'
setsid hypeman run --name counter busybox sh -c "$counter" >/dev/null &
cli=$!
until hypeman inspect counter 2>/dev/null | grep -q '"state": "Running"'; do sleep 0.1; done
wait_for counter "line 10"
printf '$ hypeman logs -f counter | head -5\n'
hypeman logs -f counter | head -5
log=$(hypeman inspect counter | sed -n 's/.*"app": "\(.*\)".*/\1/p')

title "3. logrotate's copytruncate under the running VM"
cat >"$data/rules" <<RULES
$log {
    copytruncate
    rotate 1
    olddir $data
}
RULES
chmod 644 "$data/rules"
show logrotate --force --state "$data/logrotate.state" "$data/rules"
sleep 1
echo "size and allocated 512-byte blocks: $(stat -c '%s bytes, %b blocks' "$log")"
echo "first bytes: $(head -c 32 "$log" | od -An -c | head -2)"
echo "NUL bytes in it: $(tr -dc '\000' <"$log" | wc -c)"

title "4. kill -9 of the hypeman that started it"
echo "before: $(tail -1 "$log")"
show kill -9 "$cli"
sleep 1
echo "after:  $(tail -1 "$log")"
show hypeman ps
sed 's/[^0-9]//g' "$log" | awk 'NR > 1 && $1 != last + 1 { print "a gap after line " last; bad = 1 } { last = $1 }
    END { if (!bad) print NR " lines since the truncation, unbroken"; exit bad }'
show hypeman rm -f counter

title "5. A network, on which VMs know each other by name"
if [ "$(id -u)" = 0 ]; then
    show hypeman run -d --name web --network demo -p 127.0.0.1::80 busybox httpd -f -p 80 -h /etc
    show hypeman run --rm --network demo busybox sh -c 'until wget -q -O - http://web/hostname; do sleep 1; done'
    show hypeman port web
    show hypeman network ls
    show hypeman rm -f web
else
    echo "SKIPPED: bridges need root; without, a VM of an image is on --network user"
fi

title "6. Debian 12 with systemd, from mmdebstrap to a clean end"
sudo=""
if [ "$(id -u)" != 0 ]; then
    sudo=sudo
    if ! sudo -n true 2>/dev/null && ! { [ -t 0 ] && sudo -v; }; then
        echo "SKIPPED: mmdebstrap needs root; run sudo make demo"
        exit 0
    fi
fi
if [ ! -f "$cache/debian.tar" ]; then
    echo "Building it with mmdebstrap (kept in target/demo for the next run)"
    $sudo mmdebstrap --quiet --variant=minbase --include=systemd-sysv,dbus,udev bookworm "$cache/debian.part.tar"
    $sudo mv "$cache/debian.part.tar" "$cache/debian.tar"
fi
show hypeman image import --name debian --cmd /sbin/init "$cache/debian.tar"
show hypeman run -d --name debian --memory 1g --show-boot --cmdline systemd.show_status=1 debian
wait_for debian "Reached target.*multi-user"
hypeman logs debian | grep -a -E "Linux version|Welcome to|Reached target" | cut -c1-100
show hypeman stop -t 60 debian
hypeman logs --tail 3 debian | cut -c1-100
hypeman ps -a

title "Cleaned up. Read README.md for the rest."
