// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/volseal/volseal/test/lab/aws"
	"github.com/volseal/volseal/test/lab/kms"
)

// Keys is what EBS asks of KMS (a *kms.Server), on behalf of the principal p who
// asked EC2. Errors are *aws.Error with the code that KMS answers.
type Keys interface {
	EBSGenerateDataKeyWithoutPlaintext(p aws.Principal, keyARN, volumeID string) (wrapped []byte, err error)
	EBSCreateGrant(p aws.Principal, keyARN, volumeID string) error
	EBSDecrypt(p aws.Principal, keyARN, volumeID string, wrapped []byte) error
	EBSReEncrypt(p aws.Principal, fromARN, toARN, fromID, toID string, wrapped []byte) ([]byte, error)
	EBSRetireGrant(p aws.Principal, keyARN, volumeID string) error
	Describe(arn string) (kms.KeyInfo, error) // finds the key behind an alias
}

// Latency is how long an asynchronous transition takes: uniform in [Min, Max].
type Latency struct{ Min, Max time.Duration }

// Options of an emulator. Dir, KMS and Credentials are required.
type Options struct {
	Dir         string // state and raw images
	KMS         Keys
	Credentials *aws.Credentials
	Calls       *aws.CallLog     // nil: not logged
	Faults      *aws.Faults      // nil: none
	Plugger     Plugger          // nil: NoMachine
	Now         func() time.Time // nil: time.Now
	Latency     Latency          // zero: 200 ms to 1 s
	AttachLimit int              // volumes on one instance; 0: 28, as on older Nitro
	DefaultKey  string           // ARN that encrypts where a caller names no key; empty: such requests are refused
	Account     string           // owner of everything; empty: 916150859591
	Region      string           // empty: us-east-1
	Log         *slog.Logger     // nil: discard
}

func (o *Options) fill() {
	if o.Calls == nil {
		o.Calls = aws.NewCallLog()
	}
	if o.Faults == nil {
		o.Faults = aws.NewFaults()
	}
	if o.Plugger == nil {
		o.Plugger = NoMachine{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Latency == (Latency{}) {
		o.Latency = Latency{Min: 200 * time.Millisecond, Max: time.Second}
	}
	if o.AttachLimit == 0 {
		o.AttachLimit = 28
	}
	if o.Account == "" {
		o.Account = "916150859591"
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Server is the emulated EC2. It serves the Query protocol as an http.Handler;
// its other methods are what happens outside the API: an operator at the lab's
// controls, a machine that boots.
type Server struct {
	opts       Options
	operations map[string]operation

	// images serialises whatever reads or writes raw image files as a whole.
	// Where both are needed it is taken before mu.
	images sync.Mutex

	mu      sync.Mutex
	st      *state
	changed chan struct{} // closed and replaced at each change of st
	drivers map[string]chan struct{}

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// New opens the emulator on opts.Dir and resumes the transitions that an
// earlier run left unfinished. Close it.
func New(opts Options) (*Server, error) {
	if opts.Dir == "" || opts.KMS == nil || opts.Credentials == nil {
		return nil, errors.New("start EC2: Dir, KMS and Credentials are required")
	}
	opts.fill()
	dir, err := filepath.Abs(opts.Dir) // the machine may run elsewhere
	if err != nil {
		return nil, fmt.Errorf("start EC2: %w", err)
	}
	opts.Dir = dir
	s := &Server{
		opts:       opts,
		operations: operations(),
		changed:    make(chan struct{}),
		drivers:    map[string]chan struct{}{},
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.resume()
	return s, nil
}

// Close ends all transitions where they stand and waits for them. The state is
// on disk already.
func (s *Server) Close() error {
	s.cancel()
	s.wg.Wait()
	return nil
}

func (s *Server) latency() time.Duration {
	l := s.opts.Latency
	if l.Max <= l.Min {
		return l.Min
	}
	return l.Min + mrand.N(l.Max-l.Min)
}

func newID(kind string) string {
	var b [9]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	return kind + "-" + hex.EncodeToString(b[:])[:17]
}
