// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// claims: what this host remembers of its volumes, and the images of their headers.
func (h Host) claims() []fault.Check {
	const name = "claims"
	if !h.Super {
		return []fault.Check{rootOnly(name), rootOnly("headers")}
	}
	store := volume.ReadClaims(filepath.Join(h.Root, h.State))
	all, err := store.Names()
	if errors.Is(err, fs.ErrNotExist) {
		return []fault.Check{fault.Passed(name, "None yet."), fault.Passed("headers", "None yet.")}
	}
	if err != nil {
		return []fault.Check{failed(name, firstLine(err)+".", "See: ls -ld "+h.State)}
	}
	checks := h.private(name)
	sound := map[string]volume.Claim{}
	for _, n := range all {
		claim, err := store.Load(n)
		if err != nil {
			checks = append(checks, fault.Failed(fmt.Sprintf("claim %.64q", n), err))
			continue
		}
		sound[n] = claim
	}
	if fault.FirstFailed(checks) == nil {
		checks = append(checks, fault.Passed(name, fmt.Sprintf("Readable, and by root alone: %d.", len(sound))))
	}
	if gone := h.leftClaims(sound); len(gone) > 0 {
		checks = append(checks, warned("other claims", "Of volumes that are not configured: "+strings.Join(gone, ", ")+".",
			"Nothing, if they come back. Else move the claims away, as the runbook says; never delete the headers beside them lightly."))
	}
	return append(checks, h.headers(store, sound)...)
}

// private: nobody but root may read, or replace, what says which volume may be formatted.
func (h Host) private(name string) []fault.Check {
	var open []string
	err := filepath.WalkDir(filepath.Join(h.Root, h.State), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && (info.Mode().Perm()&0o077 != 0 || ownerOf(info) != uint32(os.Geteuid())) {
			open = append(open, strings.TrimPrefix(path, h.Root))
		}
		return nil
	})
	switch {
	case err != nil:
		return []fault.Check{failed(name, firstLine(err)+".", "See: ls -lR "+h.State)}
	case len(open) > 0:
		return []fault.Check{failed(name, fmt.Sprintf("Others than root may use %s (and more: %d).", open[0], len(open)-1),
			fmt.Sprintf("Find out who did. Then: chown -R root:root %[1]s; chmod -R go= %[1]s", h.State))}
	}
	return nil
}

// leftClaims names the claims of volumes that are not configured.
func (h Host) leftClaims(claims map[string]volume.Claim) (names []string) {
	if h.Config == nil {
		return nil
	}
	for name := range claims {
		if !slices.ContainsFunc(h.Config.Volumes, func(v volume.Spec) bool { return v.Name == name }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// headers: a damaged header without an image of it is the loss of the volume.
func (h Host) headers(store *volume.Claims, claims map[string]volume.Claim) (checks []fault.Check) {
	if h.Config == nil {
		return nil
	}
	for _, v := range h.Config.Volumes {
		claim, ok := claims[v.Name]
		if !ok || !claim.Initialised() {
			continue
		}
		backups, err := store.Backups(v.Name)
		if err != nil {
			checks = append(checks, fault.Failed("header of "+v.Name, err))
			continue
		}
		checks = append(checks, judgeHeader(v.Name, claim, backups, h.Now))
	}
	return checks
}

// judgeHeader: an old backup is as good as a new one, unless the data key was replaced since.
func judgeHeader(of string, claim volume.Claim, backups []volume.Backup, now time.Time) fault.Check {
	name, remedy := "header of "+of, "Run: volseal header backup "+of+". And keep a copy off this host."
	if len(backups) == 0 {
		return warned(name, "This host has no backup of it: a damaged header would be the loss of the volume.", remedy)
	}
	newest := backups[len(backups)-1]
	if newest.Generation < claim.Generation {
		return warned(name, fmt.Sprintf("The newest backup is of generation %d, the header of %d.", newest.Generation, claim.Generation), remedy)
	}
	return fault.Passed(name, fmt.Sprintf("The newest of %d backups is %s old, of generation %d.", len(backups), days(now.Sub(newest.At)), newest.Generation))
}

func days(d time.Duration) string {
	if n := int(d / (24 * time.Hour)); n != 1 {
		return fmt.Sprintf("%d days", max(n, 0))
	}
	return "1 day"
}
