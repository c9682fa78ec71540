// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"sync"
	"time"
)

// Credential is an access key and the principal it proves.
type Credential struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string // empty for a long-term key
	Principal       Principal
	Expired         bool // answers as a session whose time has passed
}

// Credentials is the registry of the access keys the emulated AWS knows. It is
// safe for concurrent use.
type Credentials struct {
	mu   sync.RWMutex
	byID map[string]Credential
	now  func() time.Time
}

// NewCredentials returns an empty registry, on the machine's clock.
func NewCredentials() *Credentials {
	return &Credentials{byID: map[string]Credential{}, now: time.Now}
}

// Add registers cred, in place of an earlier one with the same access key id.
func (c *Credentials) Add(cred Credential) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byID[cred.AccessKeyID] = cred
}

// Remove forgets an access key: its next request is from an unrecognized client.
func (c *Credentials) Remove(accessKeyID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byID, accessKeyID)
}

// SetExpired makes a known access key answer as expired, or as valid again. It
// reports whether the key is known.
func (c *Credentials) SetExpired(accessKeyID string, expired bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	cred, ok := c.byID[accessKeyID]
	if ok {
		cred.Expired = expired
		c.byID[accessKeyID] = cred
	}
	return ok
}

// SetClock replaces the clock that requests' dates are compared with.
func (c *Credentials) SetClock(now func() time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

func (c *Credentials) lookup(accessKeyID string) (cred Credential, known bool, now time.Time) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	cred, known = c.byID[accessKeyID]
	return cred, known, c.now()
}
