// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// TestEverythingFits protects who reads at 3 am on a serial console: whatever the
// agent says, no line is wider than 80 columns, unless it holds one word that is,
// such as an ARN; and no byte of it is a command to the terminal.
func TestEverythingFits(t *testing.T) {
	anySnapshots(func(s volume.Snapshot) {
		checkFits(t, printAll(terminal{now: testNow}, s))
	})
}

func checkFits(t *testing.T, out string) {
	t.Helper()
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
	anySnapshots(func(s volume.Snapshot) {
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

// draw makes up what an agent might say, without rapid: see linkedAsTheAgent.
type draw struct{ *rand.Rand }

// anySnapshots are the same ones each time.
func anySnapshots(each func(volume.Snapshot)) {
	for seed := range uint64(300) {
		each(draw{rand.New(rand.NewPCG(seed, 0))}.snapshot())
	}
}

// pick is one of these.
func pick[T any](d draw, from ...T) T { return from[d.IntN(len(from))] }

// letters are at least min, of those given.
func (d draw) letters(of string, least, most int) string {
	all := []rune(of)
	out := make([]rune, least+d.IntN(most-least+1))
	for i := range out {
		out[i] = pick(d, all...)
	}
	return string(out)
}

// text is nothing, words, commands to a terminal among other text, or anything.
func (d draw) text() string {
	var b strings.Builder
	switch n := d.IntN(60); d.IntN(4) {
	case 0:
	case 1:
		for range n {
			b.WriteString(d.letters(lower, 1, 12) + pick(d, " ", ".", ",", "\n"))
		}
	case 2:
		for range n {
			b.WriteString(pick(d, "\x1b["+d.letters("0123456789;", 0, 4)+pick(d, "m", "H", "J"), d.letters(lower+" \u00e9\u4e16\U0001f512", 1, 3)))
		}
	case 3:
		for range n {
			b.WriteRune(pick(d, rune(d.IntN(0x20)), 0x20+rune(d.IntN(0x80)), rune(d.IntN(0x3000)), rune(d.IntN(utf8.MaxRune))))
		}
	}
	return b.String()
}

const (
	lower   = "abcdefghijklmnopqrstuvwxyz"
	hexes   = "0123456789abcdef"
	decimal = "0123456789"
)

func (d draw) snapshot() (s volume.Snapshot) {
	for i := range d.IntN(5) {
		v := d.volume(i)
		s.Volumes = append(s.Volumes, v)
		s.Keys = append(s.Keys, volume.KeyStatus{ARN: v.KeyARN, State: pick(d, volume.KeyStates()...), Since: d.time()})
	}
	return s
}

// volume is the i-th of a host: no two have one name.
func (d draw) volume(i int) volume.Status {
	mountpoint := d.text()
	if d.IntN(2) == 0 {
		mountpoint = strings.Repeat("/"+d.letters(lower, 1, 20), 1+d.IntN(30))
	}
	return volume.Status{
		Name:               fmt.Sprint(i) + d.letters(lower+decimal+"-", 0, 31),
		VolumeID:           "vol-" + d.letters(hexes, 17, 17),
		Database:           d.text(),
		Phase:              pick(d, volume.Phases()...),
		Since:              d.time(),
		Class:              pick(d, append([]fault.Class{fault.None}, fault.Classes()...)...),
		Error:              d.text(),
		Hint:               d.text(),
		Who:                []fault.Owner{fault.Customer, fault.Platform, fault.AWS}[d.IntN(4):],
		FailedStep:         pick(d, "", "Unlock volume", "Create 16384 GB database volume"),
		FailingSince:       d.time(),
		NextRetry:          d.time(),
		Device:             pick(d, "", "/dev/nvme1n1"),
		Mapping:            pick(d, "", "volseal-x"),
		Mountpoint:         mountpoint,
		KeyARN:             d.arn(),
		LUKSUUID:           "2f9a0f0e-6a39-4d7a-9c4f-0a54b7f6a001",
		LastProof:          d.time(),
		WouldSurviveReboot: pick(d, true, false),
		Wish:               pick(d, volume.WishMounted, volume.WishSealed, volume.WishDetached),
		Progress:           d.text(),
	}
}

func (d draw) arn() string {
	id := "mrk-" + d.letters(hexes, 32, 32)
	if d.IntN(2) == 0 {
		id = d.letters(hexes, 8, 8) + strings.Repeat("-"+d.letters(hexes, 4, 4), 3) + "-" + d.letters(hexes, 12, 12)
	}
	region := d.letters(lower, 2, 2) + "-" + d.letters(lower, 4, 9) + "-" + d.letters("123456789", 1, 1)
	return "arn:" + pick(d, "aws", "aws-us-gov", "aws-cn") + ":kms:" + region + ":" + d.letters(decimal, 12, 12) + ":key/" + id
}

// time is from years before to years after now, or unknown.
func (d draw) time() *time.Time {
	if d.IntN(4) == 0 {
		return nil
	}
	t := testNow().Add(time.Duration(d.Int64N(1<<58) - 1<<57))
	return &t
}
