// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Version is a release of cryptsetup.
type Version struct{ Major, Minor, Patch int }

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Before reports whether v is older than the release.
func (v Version) Before(o Version) bool {
	switch {
	case v.Major != o.Major:
		return v.Major < o.Major
	case v.Minor != o.Minor:
		return v.Minor < o.Minor
	}
	return v.Patch < o.Patch
}

// Oldest is the oldest release that has every option used here (--dump-json-metadata).
func Oldest() Version { return Version{2, 4, 0} }

// CorruptsReencryption reports whether the release can lose data when it
// reencrypts a volume that is in use: 2.7.0 to 2.7.4 (release notes of 2.7.5).
func (v Version) CorruptsReencryption() bool {
	return v.Major == 2 && v.Minor == 7 && v.Patch < 5
}

// Version asks cryptsetup which release it is. Errors are those of running it.
func (l *LUKS) Version(ctx context.Context) (Version, error) {
	out, err := l.tools.run(ctx, command{tool: "cryptsetup", limit: 10 * time.Second, args: []string{"--version"}})
	if err != nil {
		return Version{}, failed("ask cryptsetup for its version", err)
	}
	return parseVersion(string(out))
}

// parseVersion reads "cryptsetup 2.6.1 flags: …". Nothing else tells the release.
func parseVersion(text string) (Version, error) {
	fields := strings.Fields(text)
	if len(fields) < 2 || fields[0] != "cryptsetup" {
		return Version{}, fmt.Errorf("cryptsetup says %.40q, which is no version", text)
	}
	var v Version
	number, _, _ := strings.Cut(fields[1], "-") // 2.8.0-rc1
	if strings.Count(number, ".") == 1 {
		number += ".0"
	}
	if n, err := fmt.Sscanf(number, "%d.%d.%d", &v.Major, &v.Minor, &v.Patch); n != 3 || err != nil || v.String() != number {
		return Version{}, fmt.Errorf("cryptsetup says %.40q, which is no version", text)
	}
	return v, nil
}
