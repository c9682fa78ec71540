// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/volseal/volseal/test/lab/aws"
)

const (
	service      = "kms"
	targetPrefix = "TrentService."
	contentType  = "application/x-amz-json-1.1"
	maxBody      = 1 << 20
)

// Options are what a Server is made of. What is left out is made anew: a
// Server without Credentials knows no caller and refuses all requests.
type Options struct {
	Dir         string // keeps the state over restarts; "" keeps it in memory
	Credentials *aws.Credentials
	Calls       *aws.CallLog
	Faults      *aws.Faults
	Now         func() time.Time
	EC2Region   string // where the EC2 lives that calls the EBS… methods; default us-east-1
}

// Server is an emulated KMS of all regions and accounts: the region of a
// request is the one it was signed for. It is safe for concurrent use.
type Server struct {
	opts       Options
	operations map[string]operation

	mu    sync.Mutex
	st    *state
	saved []byte // the state in Dir, to go back to
}

// Open returns a Server with the state that an earlier one left in opts.Dir. It
// fails where that state cannot be read, and leaves it alone.
func Open(opts Options) (*Server, error) {
	if opts.Credentials == nil {
		opts.Credentials = aws.NewCredentials()
	}
	if opts.Calls == nil {
		opts.Calls = aws.NewCallLog()
	}
	if opts.Faults == nil {
		opts.Faults = aws.NewFaults()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.EC2Region == "" {
		opts.EC2Region = "us-east-1"
	}
	st, err := load(opts.Dir)
	if err != nil {
		return nil, err
	}
	saved, err := st.encode()
	if err != nil {
		return nil, err
	}
	return &Server{opts: opts, operations: operations(), st: st, saved: saved}, nil
}

// New is Open for a caller that cannot go on without: it panics on an error.
func New(opts Options) *Server {
	s, err := Open(opts)
	if err != nil {
		panic(err)
	}
	return s
}

// request is one operation being served. The operation fills in call as it
// learns what the request is about.
type request struct {
	caller
	now  time.Time
	call *aws.Call
}

// operation serves one request on the locked state. It returns the members of
// the result, or nil for an operation without any.
type operation func(s *Server, rq *request, body []byte) (any, error)

// op makes an operation of a function with a typed input.
func op[In any](serve func(*Server, *request, In) (any, error)) operation {
	return func(s *Server, rq *request, body []byte) (any, error) {
		var in In
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, refuse("SerializationException", "%s", serializationProblem(err))
		}
		return serve(s, rq, in)
	}
}

func serializationProblem(err error) string {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Sprintf("%s can not be converted to %s", strings.ToUpper(e.Value), e.Type)
	}
	return "Unable to parse the request body: " + err.Error()
}

// ServeHTTP serves one request of the JSON 1.1 protocol and logs it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := aws.Call{Service: service, RequestID: aws.NewUUID(), Region: aws.RequestRegion(r)}
	call.Operation = strings.TrimPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	out, err := s.serve(r, &call)
	status, body := http.StatusOK, []byte(nil)
	if err == nil && out != nil {
		body, err = json.Marshal(out)
	}
	call.Result = "ok"
	if err != nil {
		e := asAPIError(err)
		call.Result = e.Code
		status, body = e.Status, errorBody(e)
	}
	s.opts.Calls.Add(call) // before the answer: who has it may read the log at once
	h := w.Header()
	h.Set("X-Amzn-Requestid", call.RequestID)
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate, private")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone away is not the server's concern
}

// errorBody is an error on the wire. The layer that authorizes spells Message
// with a capital, the others do not.
func errorBody(e *aws.Error) []byte {
	name := "message"
	if e.Code == "AccessDeniedException" {
		name = "Message"
	}
	fields := map[string]string{"__type": e.Code}
	if e.Message != "" {
		fields[name] = e.Message
	}
	b, _ := json.Marshal(fields) // strings only: cannot fail
	return b
}

func (s *Server) serve(r *http.Request, call *aws.Call) (any, error) {
	body, err := aws.ReadBody(r, maxBody)
	if err != nil {
		return nil, err
	}
	operation, ok := s.operations[call.Operation]
	if !ok || r.Method != http.MethodPost || !strings.HasPrefix(r.Header.Get("X-Amz-Target"), targetPrefix) {
		return nil, refuse("UnknownOperationException", "")
	}
	p, err := s.opts.Credentials.Verify(r, body, service, "")
	if err != nil {
		return nil, err
	}
	call.Principal = p.ARN
	if e := s.opts.Faults.Next(service); e != nil {
		return nil, e
	}
	return s.do(caller{principal: p, region: call.Region}, call, func(rq *request) (any, error) {
		return operation(s, rq, body)
	})
}

// do runs what a caller asks for on the locked state.
func (s *Server) do(c caller, call *aws.Call, serve func(*request) (any, error)) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rq := &request{caller: c, now: s.opts.Now().UTC(), call: call}
	if s.st.expire(rq.now) {
		if err := s.persist(); err != nil {
			return nil, err
		}
	}
	return serve(rq)
}

// persist makes the changed state durable before the change is answered. Where
// that fails the change did not happen: the state is again what it was.
func (s *Server) persist() error {
	if s.opts.Dir == "" {
		return nil
	}
	changed, err := s.st.encode()
	if err != nil {
		return err
	}
	if err := save(s.opts.Dir, changed); err != nil {
		s.st, _ = decodeState(s.saved) // was encoded by us: cannot fail
		return err
	}
	s.saved = changed
	return nil
}

func operations() map[string]operation {
	return map[string]operation{
		"CreateKey":                       op((*Server).createKey),
		"DescribeKey":                     op((*Server).describeKey),
		"ListKeys":                        op((*Server).listKeys),
		"EnableKey":                       op((*Server).enableKey),
		"DisableKey":                      op((*Server).disableKey),
		"ScheduleKeyDeletion":             op((*Server).scheduleKeyDeletion),
		"CancelKeyDeletion":               op((*Server).cancelKeyDeletion),
		"GetPublicKey":                    op((*Server).getPublicKey),
		"GetKeyPolicy":                    op((*Server).getKeyPolicy),
		"PutKeyPolicy":                    op((*Server).putKeyPolicy),
		"ListKeyPolicies":                 op((*Server).listKeyPolicies),
		"CreateAlias":                     op((*Server).createAlias),
		"UpdateAlias":                     op((*Server).updateAlias),
		"DeleteAlias":                     op((*Server).deleteAlias),
		"ListAliases":                     op((*Server).listAliases),
		"Encrypt":                         op((*Server).encrypt),
		"Decrypt":                         op((*Server).decrypt),
		"ReEncrypt":                       op((*Server).reEncrypt),
		"GenerateDataKey":                 op((*Server).generateDataKey),
		"GenerateDataKeyWithoutPlaintext": op((*Server).generateDataKeyWithoutPlaintext),
		"CreateGrant":                     op((*Server).createGrant),
		"ListGrants":                      op((*Server).listGrants),
		"RevokeGrant":                     op((*Server).revokeGrant),
		"RetireGrant":                     op((*Server).retireGrant),
	}
}
