// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/volseal/volseal/internal/fault"
)

// TestSurplus: the newest ten stay, and the newest of each generation whatever
// its age: an old generation's only backup is the only way back to it.
func TestSurplus(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var backups []Backup
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for i, g := range rapid.SliceOfN(rapid.IntRange(1, 5), 0, 40).Draw(t, "generations") {
			at = at.Add(time.Duration(i+1) * time.Second)
			backups = append(backups, Backup{File: backupName(g, at), Generation: g, At: at})
		}
		gone := surplus(backups)
		var left []Backup
		for _, b := range backups {
			if !slices.Contains(gone, b) {
				left = append(left, b)
			}
		}
		if newest := backups[max(0, len(backups)-keptBackups):]; !slices.Equal(left[len(left)-len(newest):], newest) {
			t.Fatalf("of the newest, %v are left", left)
		}
		for g := 1; g <= 5; g++ {
			was, had := newestOf(backups, g)
			is, has := newestOf(left, g)
			if had != has || was != is {
				t.Fatalf("generation %d: newest was %v, is %v", g, was, is)
			}
		}
		if len(left) > keptBackups+5 {
			t.Fatalf("%d are left", len(left))
		}
	})
}

// TestBackupNames: what a name says is read back, and nothing else is a backup.
func TestBackupNames(t *testing.T) {
	at := time.Date(2026, 11, 28, 7, 45, 0, 0, time.UTC)
	name := backupName(3, at)
	if name != "g3-20261128T074500Z.img" {
		t.Error(name)
	}
	if b, ok := parseBackup(name); !ok || b != (Backup{File: name, Generation: 3, At: at}) {
		t.Errorf("%+v", b)
	}
	for _, other := range []string{
		"", "g0-20261128T074500Z.img", "g1-20261328T074500Z.img", "g1-20261128T074500Z.img.new", "replaced-20261128T074500Z.img",
		"intended.img", ".draft", "g99999999999-20261128T074500Z.img", "../g1-20261128T074500Z.img",
	} {
		if _, ok := parseBackup(other); ok {
			t.Errorf("%q is taken for a backup", other)
		}
	}
}

func draft(t *testing.T, c *Claims, text string) string {
	t.Helper()
	path, err := c.Draft("orders")
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestKeep: each change is kept once, in an order that no clock disturbs, and
// few enough.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := NewClaims(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		var removed []string
		for i := range 14 { // all in one second
			b, fresh, gone, err := c.Keep("orders", draft(t, c, fmt.Sprint(i/2)), 1)
			if err != nil || fresh != (i%2 == 0) {
				t.Fatalf("%d: %+v, fresh %v, %v", i, b, fresh, err)
			}
			removed = append(removed, gone...)
		}
		for i := range 6 {
			if _, _, gone, err := c.Keep("orders", draft(t, c, fmt.Sprint("next ", i)), 2); err != nil {
				t.Fatal(err)
			} else {
				removed = append(removed, gone...)
			}
		}
		backups, err := c.Backups("orders")
		if err != nil || len(backups) != keptBackups || len(removed) != 3 {
			t.Fatalf("%d backups, removed %v, %v", len(backups), removed, err)
		}
		last, _ := newestOf(backups, 2)
		if raw, err := os.ReadFile(c.Image("orders", last.File)); err != nil || string(raw) != "next 5" {
			t.Errorf("the newest holds %q, %v", raw, err)
		}
	})
}

// TestReplacedHeadersAreNeverRemoved: they may be the only copy of what somebody
// overwrote by mistake. When there are many, a person decides.
func TestReplacedHeadersAreNeverRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := NewClaims(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for i := range keptReplaced {
			for range 2 { // repeated after a kill
				file, err := c.SetReplacedAside("orders", draft(t, c, fmt.Sprint(i)))
				if err != nil {
					t.Fatal(err)
				}
				names[file] = true
			}
		}
		if len(names) != keptReplaced {
			t.Errorf("%d names", len(names))
		}
		_, err = c.SetReplacedAside("orders", draft(t, c, "one more"))
		if fault.ReasonOf(err) != "replaced-headers" {
			t.Errorf("got %v", err)
		}
	})
}

// TestFindStaysInTheDirectory: a name that an operator gives leads nowhere else.
func TestFindStaysInTheDirectory(t *testing.T) {
	c, err := NewClaims(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	draft(t, c, "x")
	for _, name := range []string{"../orders.img", "/etc/passwd", ".draft", ".", "..", "a/b", strings.Repeat("a", 129), "g1\n.img"} {
		if path, err := c.Find("orders", name, 1); err == nil {
			t.Errorf("%q leads to %s", name, path)
		}
	}
	if _, err := c.Find("orders", "", 1); fault.ReasonOf(err) != "backup-missing" {
		t.Errorf("nothing there: %v", err)
	}
	if err := os.WriteFile(c.HeaderImage("orders"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "orders.img"} { // an older installation has init's image alone
		if path, err := c.Find("orders", name, 1); err != nil || path != c.HeaderImage("orders") {
			t.Errorf("%q: %s, %v", name, path, err)
		}
	}
}
