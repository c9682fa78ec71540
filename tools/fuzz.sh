#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# fuzz.sh runs every fuzz target of the module for FUZZTIME each (default 30s),
# one after another: go test -fuzz takes one target at a time.
set -eu

time=${FUZZTIME:-30s}
count=0
for file in $(git ls-files --cached --others --exclude-standard '*_test.go' | sort); do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		echo "=== $target ($(dirname "$file"), $time)"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "./$(dirname "$file")"
		count=$((count + 1))
	done
done
echo "$count fuzz targets passed"
