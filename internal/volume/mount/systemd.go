// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// systemdSocket is systemd's own socket, as systemctl uses it: it works without
// a message bus, so early in the boot and late in the shutdown too.
const systemdSocket = "/run/systemd/private"

type verb string

const (
	start verb = "start"
	stop  verb = "stop"
)

// bus is what is asked of systemd.
type bus interface {
	// job queues a job that replaces conflicting ones, waits for its end, and
	// returns its result in systemd's words.
	job(ctx context.Context, v verb, unit string) (result string, err error)
	// transient makes a unit and starts it, and waits like job.
	transient(ctx context.Context, unit string, properties []systemd.Property) (result string, err error)
	reload(ctx context.Context) error
	// state is systemd's word on the whole system: starting, running, degraded, stopping, …
	state(ctx context.Context) (string, error)
	// properties are those of a unit, whatever its kind.
	properties(ctx context.Context, unit string) (map[string]any, error)
	alive() bool
	close()
}

// connection is a bus of two connections, as the library makes them.
type connection struct {
	*systemd.Conn
	lost <-chan struct{} // closed when either has ended
	end  context.CancelFunc
}

var errLost = errors.New("the connection to systemd was lost")

// dial connects; ctx bounds only the connecting.
func dial(ctx context.Context, socket string) (bus, error) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	giveUp := context.AfterFunc(ctx, end)
	conn, err := systemd.NewConnection(func() (*dbus.Conn, error) { return authenticated(life, end, socket) })
	if err != nil {
		end()
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	if !giveUp() {
		conn.Close()
		return nil, fmt.Errorf("connect to systemd: %w", context.Cause(ctx))
	}
	return &connection{Conn: conn, lost: life.Done(), end: end}, nil
}

// authenticated dials once. No Hello: the peer is systemd itself, not a message bus.
func authenticated(life context.Context, end context.CancelFunc, socket string) (*dbus.Conn, error) {
	conn, err := dbus.Dial("unix:path="+socket, dbus.WithContext(life))
	if err != nil {
		return nil, err
	}
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		conn.Close()
		return nil, err
	}
	// A lost connection of the pair is the loss of both.
	context.AfterFunc(conn.Context(), end)
	return conn, nil
}

func (c *connection) job(ctx context.Context, v verb, unit string) (string, error) {
	queue := c.StartUnitContext
	if v == stop {
		queue = c.StopUnitContext
	}
	done := make(chan string, 1)
	if _, err := queue(ctx, unit, "replace", done); err != nil {
		return "", err
	}
	return c.ended(ctx, done)
}

func (c *connection) transient(ctx context.Context, unit string, properties []systemd.Property) (string, error) {
	done := make(chan string, 1)
	if _, err := c.StartTransientUnitContext(ctx, unit, "fail", properties, done); err != nil {
		return "", err
	}
	return c.ended(ctx, done)
}

func (c *connection) ended(ctx context.Context, done <-chan string) (string, error) {
	select {
	case result := <-done:
		return result, nil
	case <-c.lost:
		return "", errLost
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (c *connection) reload(ctx context.Context) error { return c.ReloadContext(ctx) }

func (c *connection) state(ctx context.Context) (string, error) {
	p, err := c.SystemStateContext(ctx)
	if err != nil {
		return "", err
	}
	s, ok := p.Value.Value().(string)
	if !ok {
		return "", fmt.Errorf("SystemState is a %s, not a string", p.Value.Signature())
	}
	return s, nil
}

func (c *connection) properties(ctx context.Context, unit string) (map[string]any, error) {
	return c.GetAllPropertiesContext(ctx, unit)
}

func (c *connection) alive() bool { return c.Connected() }

func (c *connection) close() {
	c.end()
	c.Close()
}
