// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"

	"github.com/volseal/volseal/internal/control/peercred"
)

// Peer is who is at the other end of a connection.
type Peer = peercred.Peer

// Permission is what a peer may ask for. Each includes those before it.
type Permission int

// The permissions. The zero value is none, so that what was forgotten is refused.
const (
	None    Permission = iota // nothing
	Read                      // status
	Operate                   // wishes that can be taken back
	Destroy                   // what cannot be undone
)

func (p Permission) String() string {
	switch p {
	case Read:
		return "read"
	case Operate:
		return "operate"
	case Destroy:
		return "destroy"
	default:
		return "none"
	}
}

// Policy says which groups may do what. Root may do everything.
// The zero value grants nothing to anybody else.
type Policy struct {
	readers, operators *uint32
}

// NewPolicy looks the groups up by name, or takes a number. A group that does
// not exist grants nothing: the error names it, and the policy returned with it
// is usable.
func NewPolicy(readers, operators string) (Policy, error) {
	r, rerr := groupID(readers)
	o, oerr := groupID(operators)
	return Policy{readers: r, operators: o}, errors.Join(rerr, oerr)
}

// Permit is the permission of a peer.
func (p Policy) Permit(peer Peer) Permission {
	switch {
	case peer.UID == 0:
		return Destroy
	case p.operators != nil && peer.In(*p.operators):
		return Operate
	case p.readers != nil && peer.In(*p.readers):
		return Read
	}
	return None
}

// The kernel shows ids that have no meaning here (another user namespace) as
// the overflow id, so a group of that number would admit strangers.
const overflowID = 65534

func groupID(name string) (*uint32, error) {
	if name == "" {
		return nil, nil
	}
	number := name
	if g, err := user.LookupGroup(name); err == nil {
		number = g.Gid
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("find group %q: no such group", name)
	}
	if n == overflowID {
		return nil, fmt.Errorf("find group %q: %d is the overflow id and grants nothing", name, n)
	}
	id := uint32(n)
	return &id, nil
}
