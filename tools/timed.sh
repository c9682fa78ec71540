#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# timed.sh NAME TARGET… makes the targets one after another, says how long each
# took, and ends at the first that fails.
set -euo pipefail

name=$1
shift
total=$SECONDS
for target; do
	echo "=== $target"
	start=$SECONDS
	if ! "${MAKE:-make}" --no-print-directory "$target"; then
		echo "--- FAIL: $target ($((SECONDS - start))s)"
		exit 1
	fi
	echo "--- ok: $target ($((SECONDS - start))s)"
done
echo "$name: ok ($((SECONDS - total))s)"
