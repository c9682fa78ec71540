// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"slices"
	"sync"
	"time"
)

// maxCalls bounds the log's memory; the oldest calls go first.
const maxCalls = 200_000

// Call is one request served, also one that was refused. As JSON it is one line
// of `labctl calls`.
type Call struct {
	Time      time.Time         `json:"time"`
	Service   string            `json:"service"`           // "kms" or "ec2"
	Operation string            `json:"operation"`         // as in the API: "Decrypt"
	Region    string            `json:"region,omitempty"`  // that the request was signed for
	Key       string            `json:"key,omitempty"`     // ARN of the CMK, where one was found
	Context   map[string]string `json:"context,omitempty"` // encryption context
	ToKey     string            `json:"to_key,omitempty"`  // of ReEncrypt: the ARN of the new CMK
	ToContext map[string]string `json:"to_context,omitempty"`
	Resource  string            `json:"resource,omitempty"`  // what else it was about: a volume, a snapshot
	Via       string            `json:"via,omitempty"`       // the service that asked on the principal's behalf: "ec2"
	DryRun    bool              `json:"dry_run,omitempty"`   // asked only whether it might
	Principal string            `json:"principal,omitempty"` // ARN; empty where no signature proved one
	Result    string            `json:"result"`              // "ok" or the error code
	RequestID string            `json:"request_id,omitempty"`
}

// CallLog remembers the requests served, in order. It is safe for concurrent use.
type CallLog struct {
	mu      sync.Mutex
	calls   []Call
	dropped int64 // calls that the bound has pushed out
	now     func() time.Time
}

// NewCallLog returns an empty log.
func NewCallLog() *CallLog { return &CallLog{now: time.Now} }

// Add appends a call. A zero Time becomes now.
func (l *CallLog) Add(c Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.Time.IsZero() {
		c.Time = l.now().UTC()
	}
	if len(l.calls) == maxCalls {
		l.dropped += maxCalls / 2
		l.calls = slices.Clone(l.calls[maxCalls/2:])
	}
	l.calls = append(l.calls, c)
}

// Mark is a place in the log: Since(Mark()) is what came after.
func (l *CallLog) Mark() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped + int64(len(l.calls))
}

// Since returns the calls added after mark, oldest first; Since(0) is all of them.
func (l *CallLog) Since(mark int64) []Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := min(max(mark-l.dropped, 0), int64(len(l.calls)))
	return slices.Clone(l.calls[from:])
}
