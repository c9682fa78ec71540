// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/volseal/volseal/internal/envelope"
)

// compareViews has cryptsetup read the same file and demands that it sees what
// we saw: two parsers that disagree about a header are an attacker's opening.
func (l *LUKS) compareViews(ctx context.Context, path string, ours *header) error {
	if l.views.agreed(ours.sum) {
		return nil
	}
	c, err := dumpOptions{header: path}.command()
	if err != nil {
		return err
	}
	out, err := l.tools.run(ctx, c)
	switch {
	case errors.Is(err, errUsage): // its word for "no valid LUKS device"; other failures are not the disk's
		return refuse(ruleView, err)
	case err != nil:
		return failed("have cryptsetup read the header", err)
	}
	theirs, err := canonicalView(out)
	if err != nil || !bytes.Equal(theirs, ours.canonical) {
		return refuse(ruleView, err)
	}
	l.views.agree(ours.sum)
	return nil
}

// viewLasts spans the steps that make one header and put it to use. It is short
// because an upgrade may bring another parser.
const viewLasts = time.Minute

// views are the metadata, to the byte, that cryptsetup has just read as we do. It is
// not asked again about each copy of them.
type views struct {
	mu    sync.Mutex
	until map[[sha256.Size]byte]time.Time
}

func (v *views) agreed(sum [sha256.Size]byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return time.Now().Before(v.until[sum])
}

func (v *views) agree(sum [sha256.Size]byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(v.until, func(_ [sha256.Size]byte, until time.Time) bool { return !now.Before(until) })
	if v.until == nil {
		v.until = map[[sha256.Size]byte]time.Time{}
	}
	v.until[sum] = now.Add(viewLasts)
}

// canonicalView drops the indentation first: it may exceed the bounds that the
// metadata itself keeps.
func canonicalView(out []byte) ([]byte, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, out); err != nil {
		return nil, err
	}
	return envelope.CanonicalJSON(compact.Bytes())
}
