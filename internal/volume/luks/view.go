// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	"github.com/volseal/volseal/internal/envelope"
)

// compareViews has cryptsetup read the same file and demands that it sees what
// we saw: two parsers that disagree about a header are an attacker's opening.
func (l *LUKS) compareViews(ctx context.Context, path string, ours []byte) error {
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
	if err != nil || !bytes.Equal(theirs, ours) {
		return refuse(ruleView, err)
	}
	return nil
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
