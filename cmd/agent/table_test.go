// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// TestEverythingFits protects who reads at 3 am on a serial console: whatever the
// agent says, no line is wider than 80 columns, unless it holds one word that is,
// such as an ARN; and no byte of it is a command to the terminal.
func TestEverythingFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anySnapshot(t)
		checkFits(t, printAll(terminal{now: testNow}, s))
	})
}

func checkFits(t *rapid.T, out string) {
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > width && !oneLongWord(line) {
			t.Fatalf("%d columns: %q", n, line)
		}
		if shown(line) != line {
			t.Fatalf("a command to the terminal: %q", line)
		}
	}
}

// TestColourAddsNothingElse protects the same on a terminal: without its colours
// the text is that of a pipe, and NO_COLOR leaves none.
func TestColourAddsNothingElse(t *testing.T) {
	uncoloured := strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[0m", "")
	rapid.Check(t, func(t *rapid.T) {
		s := anySnapshot(t)
		pipe := printAll(terminal{now: testNow}, s)
		if tty := printAll(terminal{now: testNow, tty: true}, s); uncoloured.Replace(tty) != pipe {
			t.Fatalf("on a terminal:\n%q\nelsewhere:\n%q", tty, pipe)
		}
		if plain := printAll(terminal{now: testNow, tty: true, plain: true}, s); plain != pipe {
			t.Fatalf("without colour:\n%q\nelsewhere:\n%q", plain, pipe)
		}
	})
}

// oneLongWord: a line may be too wide for the sake of one word that nothing can
// be done about, after whatever heads the line.
func oneLongWord(line string) bool {
	words := strings.Fields(line)
	last := words[len(words)-1]
	return utf8.RuneCountInString(last) > width-len("  hint:  ")-2 && len(words) <= 2
}

// printAll is every way in which a status is shown to people.
func printAll(on terminal, s volume.Snapshot) string {
	var out bytes.Buffer
	on.stdout = &out
	c := &cli{terminal: on}
	c.printTable(s)
	for _, v := range s.Volumes {
		one, err := narrow(s, v.Name)
		if err != nil {
			panic(err)
		}
		c.printVolume(one)
		c.printExplanation(c.explanationOf(one))
		c.printOutcome(v, control.Fulfilled)
	}
	return out.String()
}

func anySnapshot(t *rapid.T) volume.Snapshot {
	var s volume.Snapshot
	s.Volumes = rapid.SliceOfNDistinct(rapid.Custom(anyVolume), 0, 4, func(v volume.Status) string { return v.Name }).Draw(t, "volumes")
	for _, v := range s.Volumes {
		s.Keys = append(s.Keys, volume.KeyStatus{
			ARN: v.KeyARN, State: rapid.SampledFrom(volume.KeyStates()).Draw(t, "state"), Since: anyTime(t),
		})
	}
	return s
}

func anyVolume(t *rapid.T) volume.Status {
	wishes := []volume.Wish{volume.WishMounted, volume.WishSealed, volume.WishDetached}
	classes := append([]fault.Class{fault.None}, fault.Classes()...)
	text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.StringMatching(`([a-z]{1,12}[ .,\n]){0,60}`), rapid.StringMatching(`(\x1b\[[0-9;]*[mHJ]|.){0,40}`))
	return volume.Status{
		Name:               rapid.StringMatching(`[a-z0-9][a-z0-9-]{0,31}`).Draw(t, "name"),
		VolumeID:           rapid.StringMatching(`vol-[0-9a-f]{17}`).Draw(t, "id"),
		Database:           text.Draw(t, "database"),
		Phase:              rapid.SampledFrom(volume.Phases()).Draw(t, "phase"),
		Since:              anyTime(t),
		Class:              rapid.SampledFrom(classes).Draw(t, "class"),
		Error:              text.Draw(t, "error"),
		Hint:               text.Draw(t, "hint"),
		Who:                rapid.SliceOfN(rapid.SampledFrom([]fault.Owner{fault.Customer, fault.Platform, fault.AWS}), 0, 3).Draw(t, "who"),
		FailedStep:         rapid.SampledFrom([]string{"", "Unlock volume", "Create 16384 GB database volume"}).Draw(t, "step"),
		FailingSince:       anyTime(t),
		NextRetry:          anyTime(t),
		Device:             rapid.SampledFrom([]string{"", "/dev/nvme1n1"}).Draw(t, "device"),
		Mapping:            rapid.SampledFrom([]string{"", "volseal-x"}).Draw(t, "mapping"),
		Mountpoint:         rapid.OneOf(rapid.StringMatching(`(/[a-z]{1,20}){1,30}`), text).Draw(t, "mountpoint"),
		KeyARN:             rapid.StringMatching(`arn:aws(-us-gov|-cn)?:kms:[a-z]{2}-[a-z]{4,9}-[1-9]:[0-9]{12}:key/(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})`).Draw(t, "arn"),
		LUKSUUID:           "2f9a0f0e-6a39-4d7a-9c4f-0a54b7f6a001",
		LastProof:          anyTime(t),
		WouldSurviveReboot: rapid.Bool().Draw(t, "survives"),
		Wish:               rapid.SampledFrom(wishes).Draw(t, "wish"),
		Progress:           text.Draw(t, "progress"),
	}
}

// anyTime is from years before to years after now, or unknown.
func anyTime(t *rapid.T) *time.Time {
	return rapid.Ptr(rapid.Custom(func(t *rapid.T) time.Time {
		return testNow().Add(time.Duration(rapid.Int64Range(-1<<57, 1<<57).Draw(t, "after")))
	}), true).Draw(t, "time")
}
