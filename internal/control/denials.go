// SPDX-License-Identifier: Apache-2.0

package control

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Lines of audit about requests that were denied. Any local user can cause
// them, as fast as the socket answers, and they must not drown the journal: each
// user has a few at once and then one now and then. Beyond so many users (one
// with a user namespace has 65536 ids), those that come later share.
const (
	deniedBurst = 5
	deniedEvery = 10 * time.Second
	deniedUsers = 64
)

// denials decides which denied requests are written down.
type denials struct {
	mu    sync.Mutex
	users map[uint32]*denial
	rest  *denial
}

// denial is what one user was denied of late.
type denial struct {
	pace     *rate.Limiter
	unlogged int
}

func newDenials() *denials {
	return &denials{users: map[uint32]*denial{}, rest: newDenial()}
}

func newDenial() *denial { return &denial{pace: rate.NewLimiter(rate.Every(deniedEvery), deniedBurst)} }

// log reports whether to write a line about a denied request of uid, and if so,
// how many were left out since the last one. All are counted in metrics.
func (d *denials) log(uid uint32, now time.Time) (unlogged int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.of(uid, now)
	if !u.pace.AllowN(now, 1) {
		u.unlogged++
		return 0, false
	}
	unlogged, u.unlogged = u.unlogged, 0
	return unlogged, true
}

func (d *denials) of(uid uint32, now time.Time) *denial {
	if u := d.users[uid]; u != nil {
		return u
	}
	if len(d.users) >= deniedUsers {
		d.forget(now)
	}
	if len(d.users) >= deniedUsers {
		return d.rest
	}
	u := newDenial()
	d.users[uid] = u
	return u
}

// forget drops those who have been quiet for so long that nothing is held
// against them any more; what they were denied last is told with the rest.
func (d *denials) forget(now time.Time) {
	for uid, u := range d.users {
		if u.pace.TokensAt(now) >= deniedBurst {
			d.rest.unlogged += u.unlogged
			delete(d.users, uid)
		}
	}
}
