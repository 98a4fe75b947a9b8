#!/usr/bin/env bash
# Parity and speed on a machine with an NVIDIA card, torch, transformers and PEFT. It needs neither Rust nor a network:
# bring the repository with what was built for it (see `README.md`).
#
#   benches/gpu.sh [--bench PROGRAM] [--tests PROGRAM] [CASE ...] [--times N]
#   benches/gpu.sh --tiny --cpu        the same on the processor with a model of no size, to try the script itself
#
# Ends with 0 if all was measured and right, 1 if a check failed, 3 if there is no card, 4 if something is missing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
cpu=
for argument in "$@"; do [ "$argument" = --cpu ] && cpu=1; done

if ! "$python" -c 'import torch, transformers, peft' 2>/dev/null; then
    echo "gpu.sh: $python has no torch, transformers and peft: install them, or name another python by PYTHON" >&2
    exit 4
fi
if [ -z "$cpu" ]; then
    if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
        echo "gpu.sh: there is no NVIDIA card here that torch can use: nothing was measured" >&2
        echo "        (--tiny --cpu tries the script on the processor)" >&2
        exit 3
    fi
    # torch brings the libraries of CUDA that titer loads at their first call.
    libraries=$("$python" -c 'import glob, os, torch; root = os.path.dirname(os.path.dirname(torch.__file__)); print(":".join(glob.glob(root + "/nvidia/*/lib")))')
    export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
exec "$python" "$here/gpu.py" "$@"
