// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"context"
	"time"
)

// Whatever takes time is a driver: one goroutine per volume or snapshot that
// has somewhere to go.
//
//	volume      creating ──> available ──> deleting ──> (gone)
//	               ├──> (gone)   the key was not usable, or error, see KeepFailed
//	               └──> error    the image could not be made
//	attachment  attaching ──> attached ──> detaching ──> (gone)
//	                                          └──> busy ──┘  while the guest uses it
//	snapshot    pending ──> completed | error
//
// A driver looks at the record, waits the latency, takes one step, and looks
// again; the records alone say what is left to do, so a restart resumes.

// step is one transition of the record id. It takes the locks it needs.
type step func(ctx context.Context, id string)

// kick starts the driver of id, or makes the running one look again. The lock
// is held.
func (s *Server) kick(id string) {
	if wake, running := s.drivers[id]; running {
		select {
		case wake <- struct{}{}:
		default: // it is about to look anyhow
		}
		return
	}
	if s.ctx.Err() != nil {
		return
	}
	wake := make(chan struct{}, 1)
	s.drivers[id] = wake
	s.wg.Go(func() { s.drive(id, wake) })
}

func (s *Server) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.st.Volumes {
		s.kick(id)
	}
	for id := range s.st.Snapshots {
		s.kick(id)
	}
}

func (s *Server) drive(id string, wake <-chan struct{}) {
	for {
		todo, delay := s.next(id)
		if todo == nil {
			return
		}
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
			todo(s.ctx, id)
		case <-wake:
			timer.Stop()
		case <-s.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// next is what a record has to go through now, and after what delay. It ends
// the driver, under the lock, when there is nothing.
func (s *Server) next(id string) (step, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.st.Volumes[id]; v != nil {
		if todo, delay := s.nextOfVolume(v); todo != nil {
			return todo, delay
		}
	}
	if snap := s.st.Snapshots[id]; snap != nil && snap.State == pending {
		return s.completeSnapshot, s.latency()
	}
	delete(s.drivers, id)
	return nil, 0
}

func (s *Server) nextOfVolume(v *volume) (step, time.Duration) {
	switch v.State {
	case creating:
		return s.provision, s.latency()
	case deleting:
		return s.erase, s.latency()
	}
	for _, a := range v.Attachments {
		switch {
		case a.State == attaching && v.Stick != attaching:
			return s.plugTo(a.Instance), s.latency()
		case a.State == detaching && (v.Stick != detaching || a.Force):
			return s.unplugFrom(a.Instance), s.latency()
		case a.State == busy && (v.Stick != detaching || a.Force):
			// The guest sends no event when it lets go: ask now and then.
			return s.unplugFrom(a.Instance), min(s.latency(), 250*time.Millisecond)
		}
	}
	return nil, 0
}

// update changes a volume under the lock and saves; it does nothing to one that
// is gone. An error is logged: nobody waits for an answer.
func (s *Server) update(id string, change func(v *volume)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.st.Volumes[id]
	if v == nil {
		return
	}
	change(v)
	if err := s.save(); err != nil {
		s.opts.Log.Error("EC2 state not saved", "volume", id, "error", err)
	}
}

// view is a copy of a volume; nil for one that is gone.
func (s *Server) view(id string) *volume {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.st.Volumes[id]; v != nil {
		return v.clone()
	}
	return nil
}
