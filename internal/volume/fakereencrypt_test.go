// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// fakeWork is a reencryption of a world: what is on its disk, and the job. The
// job is systemd's: it goes on when the agent dies.
type fakeWork struct {
	job       bool
	layered   bool // the mapping lies on the job's devices
	failed    bool // all I/O of those fails
	stuck     bool // the job gets no further, and ends
	killed    int  // hot zones after which it is killed in the middle of the next; 0 never
	runs      int
	rate      int64
	key       string // of the data: "" before the first reencryption
	done      int64  // bytes under the next one
	commanded error
	slow      time.Duration // a zone takes so much longer
}

const (
	workTotal = 1008 << 20
	workZones = 6 // hot zones of a job
	workZone  = workTotal / workZones
	zoneTime  = 3 * time.Second
)

// unfinishedImage is what an image with two volume keys adds to one.
type unfinishedImage struct {
	done int64
}

func (w *world) FreezeAny(context.Context, Device, string) (*Header, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.touched("freeze-any"); err != nil {
		return nil, err
	}
	img := w.images[string(w.header)]
	if img == nil || w.torn && (!w.half || img.unfinished != nil) || w.strange { // of a header that was sound one copy stays so
		return nil, &fault.Error{Class: fault.Integrity, Reason: "header-copies", Cause: "no header"}
	}
	return img.frozen(), nil
}

func (w *world) JudgeAny(_ Device, path string) (*Header, error) {
	_, img, err := w.imageAt(path)
	if err != nil {
		return nil, err
	}
	h := img.frozen()
	h.Path = path
	return h, nil
}

func (w *world) Progress(context.Context, Device) (*Unfinished, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.images[string(w.header)].frozen().Unfinished, nil
}

func (w *world) ReencryptCommand(context.Context, string, int64) (Command, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Command{Path: "/usr/sbin/cryptsetup"}, w.work.commanded
}

func (w *world) BeginReencryption(_ context.Context, _ Device, path string, keep envelope.Token, p *envelope.Secret, seal func(int, []byte) (envelope.Token, error)) error {
	if len(p.Bytes()) != 32 {
		return errors.New("no passphrase")
	}
	slot := 0
	if keep.Keyslots[0] == "0" {
		slot = 1
	}
	t, err := seal(slot, testMeaning)
	if err != nil {
		return err
	}
	return w.change("begin-reencryption", func() {
		key := fmt.Sprint(path, " ", len(w.calls))
		w.images[key] = &image{uuid: w.images[string(w.header)].uuid, tokens: []envelope.Token{keep, t}, key: w.work.key, unfinished: &unfinishedImage{}}
		if err := writeDurably(path, []byte(key)); err != nil {
			panic(err)
		}
	})
}

func (w *world) FailLayers(context.Context, string, string) error {
	return w.change("fail-layers", func() { w.work.failed = true })
}

func (w *world) CloseLayers(context.Context, string, string) error {
	w.mu.Lock()
	there, busy := w.work.layered, w.mapped
	w.mu.Unlock()
	switch {
	case !there:
		return nil
	case busy:
		return &fault.Error{Class: fault.Unknown, Reason: "busy", Cause: "in use"}
	}
	return w.change("close-layers", func() { w.work.layered, w.work.failed = false, false })
}

// jobs has the names that clash.
type jobs struct{ w *world }

func (j jobs) Running(context.Context, string) (bool, error) {
	j.w.mu.Lock()
	defer j.w.mu.Unlock()
	return j.w.work.job, nil
}

func (j jobs) Run(_ context.Context, o Job) error {
	w := j.w
	if len(o.Stdin.Bytes()) != 32 || o.Mountpoint != "/var/lib/postgresql" || o.Device == "" {
		return errors.New("a bad job")
	}
	if img := w.onDisk(); img.unfinished == nil || img.unfinished.done != w.is64(func() int64 { return w.work.done }) {
		return errors.New("nothing to do, or the header does not say what was done")
	}
	return w.change("run", func() {
		w.work.job, w.work.layered, w.work.rate = true, true, o.Rate
		w.work.runs++
		w.nextZone(w.work.runs)
	})
}

func (j jobs) Halt(context.Context, string) error {
	return j.w.change("halt", func() { j.w.endJob() })
}

// endJob is called with w.mu held.
func (w *world) endJob() {
	if w.work.job {
		w.work.job, w.work.layered = false, false
	}
}

func (w *world) onDisk() *image {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.images[string(w.header)]
}

func (w *world) is64(what func() int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return what()
}

// nextZone is the job. It is called with w.mu held.
func (w *world) nextZone(run int) {
	time.AfterFunc(zoneTime+w.work.slow, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.work.job || w.work.runs != run {
			return
		}
		if w.work.killed > 0 {
			if w.work.killed--; w.work.killed == 0 {
				w.work.job, w.suspendedZone = false, true
				return
			}
		}
		if w.work.stuck {
			w.endJob()
			return
		}
		w.zoneDone()
		w.nextZone(run)
	})
}

// zoneDone is called with w.mu held.
func (w *world) zoneDone() {
	was := w.images[string(w.header)]
	now := &image{uuid: was.uuid, tokens: was.tokens, key: was.key}
	if w.work.done += workZone; w.work.done < workTotal {
		now.unfinished = &unfinishedImage{w.work.done}
	} else {
		w.work.done = 0
		w.work.key += "+"
		now.key, now.tokens, now.stale = w.work.key, was.tokens[1:], true
		w.endJob()
	}
	key := fmt.Sprint("of the job ", w.work.runs, w.work.done, len(w.images))
	w.images[key], w.header = now, []byte(key)
}

// readable reports whether what is opened with the header on the disk is what was
// written. It is called with w.mu held.
func (w *world) readable() bool {
	img := w.images[string(w.header)]
	if img.unfinished == nil {
		return w.work.done == 0 && img.key == w.work.key
	}
	return img.key == w.work.key && img.unfinished.done == w.work.done
}
