#!/bin/sh
# The whole path as an ordinary user: base image from this machine's own files, build, save, unpack, run the result.
# Needs: this package installed in the Python that `PYTHON` names (default: python3), and nothing else.
set -eu
PATH=$PATH:/usr/sbin:/sbin  # chroot(8); ordinary users do not always have it
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work/out"; "$python" -c "import shutil, sys; shutil.rmtree(sys.argv[1], ignore_errors=True)" "$work"' EXIT

img() {
    echo "\$ img $*" >&2
    "$python" -m img_core --state "$work/state" "$@"
}

"$python" "$here/host_base.py" > "$work/base.tar"
img import "$work/base.tar" host-base
img build -t demo "$here"
img ls
img save -o "$work/demo.tar" demo
img unpack -o "$work/out/rootfs" demo
echo '$ running the result' >&2
in_it="unshare --user --map-root-user chroot"
if [ "$(id -u)" = 0 ]; then in_it=chroot; fi  # a container need not allow more
said=$($in_it "$work/out/rootfs" /usr/bin/env -i PATH=/usr/bin GREETING=hello greet)
echo "$said"
case $said in
    "hello from"*"built by root with"*) echo "demo: ok" ;;
    *) echo "demo: unexpected output" >&2; exit 1 ;;
esac
