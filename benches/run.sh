#!/bin/bash
# Compares seedpod with the peers that are installed, as root, in a private view of this machine.
# SEEDPOD, CRUN and RUNC name other binaries than target/bin/seedpod, the crun of benches/fetch-crun
# (where that cannot be had, the one in PATH) and the runc in PATH; empty leaves one out.
#
# usage: benches/run.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/.."
bench=$(cargo test --quiet --no-run --bench runtimes --message-format=json |
    grep -o '"executable":"[^"]*/runtimes-[^"]*"' | tail -n 1 | cut -d '"' -f 4)
export SEEDPOD=${SEEDPOD-$PWD/target/bin/seedpod}
export CRUN=${CRUN-$(benches/fetch-crun || command -v crun || true)} RUNC=${RUNC-$(command -v runc || true)}
for program in "$SEEDPOD" "$CRUN" "$RUNC"; do
    [ -z "$program" ] || "$program" --version | head -n 1
done
exec timeout --foreground -k 20 1200 tests/places/private-view "$bench" --rounds "${1:-20}"
