// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// fakeEC2 makes volumes and copies as EC2 does: it says yes at once, and finds
// out about the key later. All of it is guarded by the world's lock.
type fakeEC2 struct {
	volumes   map[string]*madeVolume // by id; nil: the test has none made
	snapshots map[string]*CloudSnapshot
	copied    map[string]string // by token
	mute      bool              // the key is usable for this host, and not for EC2
	broken    bool              // a volume that cannot be made stays, in state error
	unseen    time.Duration     // until EC2 shows what it has made
	refusal   error             // of CreateVolume and CopySnapshot
	deaf      error             // the answer of CreateVolume is lost, once
}

type madeVolume struct {
	NewVolume
	id    string
	since time.Time
	doomed,
	deleted bool
}

// makingTime is how long EC2 takes.
const makingTime = 5 * time.Second

func (e *fakeEC2) volume(id string) (CloudVolume, error) {
	v := e.volumes[id]
	age := time.Duration(0)
	if v != nil {
		age = time.Since(v.since)
	}
	c := CloudVolume{ID: id, State: "creating", Encrypted: true}
	switch {
	case v == nil, v.deleted, age < e.unseen, v.doomed && !e.broken && age >= makingTime:
		return CloudVolume{}, &fault.Error{Class: fault.Misconfigured, Reason: ReasonNoVolume, Cause: "There is no " + id + "."}
	case age >= makingTime && v.doomed:
		c.State = "error"
	case age >= makingTime:
		c.State = "available"
	}
	c.KeyARN = v.KeyARN
	return c, nil
}

// alive are the volumes that exist, or will.
func (e *fakeEC2) alive() (ids []string) {
	for id, v := range e.volumes {
		if !v.deleted && !v.doomed {
			ids = append(ids, id)
		}
	}
	return ids
}

// maker has the names that clash with the other ports.
type maker struct{ w *world }

func (m maker) CreateVolume(_ context.Context, v NewVolume) (id string, err error) {
	refusal := m.w.refusal()
	if refusal != nil {
		return "", refusal
	}
	err = m.w.change("create-volume", func() {
		e := &m.w.ec2
		for _, known := range e.volumes {
			if known.Token != v.Token {
				continue
			}
			id = known.id
			if known.NewVolume != v {
				id, refusal = "", &fault.Error{Class: fault.Misconfigured, Reason: ReasonTokenUsed, Cause: "Other parameters."}
			}
			return
		}
		id = fmt.Sprintf("vol-%017x", len(e.volumes)+1)
		e.volumes[id] = &madeVolume{NewVolume: v, id: id, since: time.Now(), doomed: e.mute}
	})
	if err == nil {
		err = refusal
	}
	if err == nil {
		err = m.w.deafness()
	}
	if err != nil {
		return "", err
	}
	return id, nil
}

func (w *world) refusal() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ec2.refusal
}

func (w *world) deafness() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.ec2.deaf
	w.ec2.deaf = nil
	return err
}

func (m maker) FindVolume(_ context.Context, token string) (string, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	for id, v := range m.w.ec2.volumes {
		if v.Token == token && !v.deleted && time.Since(v.since) >= m.w.ec2.unseen {
			return id, nil
		}
	}
	return "", nil
}

func (m maker) Snapshot(_ context.Context, id string) (CloudSnapshot, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if s := m.w.ec2.snapshots[id]; s != nil {
		return *s, nil
	}
	return CloudSnapshot{}, &fault.Error{Class: fault.Misconfigured, Reason: ReasonNoSnapshot, Cause: "There is no " + id + "."}
}

func (m maker) CopySnapshot(_ context.Context, c NewCopy) (id string, err error) {
	if err := m.w.refusal(); err != nil {
		return "", err
	}
	err = m.w.change("copy-snapshot", func() {
		e := &m.w.ec2
		id = fmt.Sprintf("snap-%017x", len(e.snapshots)+100)
		s := *e.snapshots[c.Snapshot]
		s.ID, s.KeyARN, s.Ours, s.State = id, c.KeyARN, true, "completed"
		if e.mute {
			s.State, s.Message = "error", "Given key ID is not accessible"
		}
		e.snapshots[id] = &s
		e.copied[c.Token] = id
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

func (m maker) FindCopy(_ context.Context, token string) (string, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	return m.w.ec2.copied[token], nil
}
