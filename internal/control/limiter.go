// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"net"
	"sync"
)

// Connections at once. The socket may be open to every local user, because a
// clear "permission denied" is worth more than a file mode; so those who may do
// nothing share a small pool of their own, one user cannot take all of what is
// left, and root is always let in.
const (
	maxConns         = 128
	maxConnsOfOne    = 32
	maxConnsOfNobody = 16
)

// caller is who is at the other end of a connection, and what they may do.
type caller struct {
	peer Peer
	may  Permission
}

// limiter is a listener that identifies each connection once, and closes those
// beyond the bounds.
type limiter struct {
	net.Listener
	identify func(net.Conn) caller

	mu     sync.Mutex
	total  int            // connections of peers with a permission, root aside
	nobody int            // of peers with none
	byUID  map[uint32]int // of peers with a permission
}

func newLimiter(ln net.Listener, identify func(net.Conn) caller) *limiter {
	return &limiter{Listener: ln, identify: identify, byUID: map[uint32]int{}}
}

// Accept returns the next connection that is within the bounds.
func (l *limiter) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who := l.identify(c)
		if l.admit(who) {
			return &conn{Conn: c, caller: who, leave: sync.OnceFunc(func() { l.leave(who) })}, nil
		}
		c.Close()
	}
}

func (l *limiter) admit(who caller) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case who.may == None:
		if l.nobody >= maxConnsOfNobody {
			return false
		}
		l.nobody++
		return true
	case who.peer.UID != 0 && (l.total >= maxConns || l.byUID[who.peer.UID] >= maxConnsOfOne):
		return false
	}
	l.count(who, 1)
	return true
}

func (l *limiter) leave(who caller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if who.may == None {
		l.nobody--
		return
	}
	l.count(who, -1)
}

func (l *limiter) count(who caller, by int) {
	if who.peer.UID == 0 {
		return
	}
	l.total += by
	l.byUID[who.peer.UID] += by
	if l.byUID[who.peer.UID] == 0 {
		delete(l.byUID, who.peer.UID)
	}
}

// conn carries its caller to the requests, and gives its place back when closed.
type conn struct {
	net.Conn
	caller caller
	leave  func()
}

func (c *conn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

type connKey struct{}

// withConn hands the caller of a connection to its requests.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if ours, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, ours.caller)
	}
	return ctx
}

// connOf is the caller of a request; nobody with no permission if unknown.
func connOf(ctx context.Context) caller {
	who, _ := ctx.Value(connKey{}).(caller)
	return who
}
