// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"bytes"
	"encoding/xml"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/volseal/volseal/test/lab/aws"
)

const (
	apiVersion = "2016-11-15"
	namespace  = "http://ec2.amazonaws.com/doc/" + apiVersion + "/"
	maxBody    = 1 << 20
)

// operation is one row of the API: what a request must contain, and who serves
// it. A dry run ends after the checks that the dispatcher makes.
type operation struct {
	required []string
	run      func(*Server, *request) (reply, error)
}

func operations() map[string]operation {
	return map[string]operation{
		"DescribeAvailabilityZones": {nil, (*Server).describeAvailabilityZones},
		"DescribeInstances":         {nil, (*Server).describeInstances},
		"DescribeVolumes":           {nil, (*Server).describeVolumes},
		"CreateVolume":              {[]string{"AvailabilityZone"}, (*Server).serveCreateVolume},
		"DeleteVolume":              {[]string{"VolumeId"}, (*Server).serveDeleteVolume},
		"AttachVolume":              {[]string{"VolumeId", "InstanceId", "Device"}, (*Server).serveAttachVolume},
		"DetachVolume":              {[]string{"VolumeId"}, (*Server).serveDetachVolume},
		"DescribeSnapshots":         {nil, (*Server).describeSnapshots},
		"CreateSnapshot":            {[]string{"VolumeId"}, (*Server).serveCreateSnapshot},
		"CopySnapshot":              {[]string{"SourceRegion", "SourceSnapshotId"}, (*Server).serveCopySnapshot},
		"DeleteSnapshot":            {[]string{"SnapshotId"}, (*Server).serveDeleteSnapshot},
		"CreateTags":                {[]string{"ResourceId.1", "Tag.1.Key"}, (*Server).createTags},
		"DeleteTags":                {[]string{"ResourceId.1"}, (*Server).deleteTags},
		"DescribeTags":              {nil, (*Server).describeTags},
	}
}

// request is one call of the API, its caller proved.
type request struct {
	params
	action string
	caller aws.Principal
	id     string
}

// reply is the body of a success; embedding meta makes one.
type reply interface{ setRequestID(string) }

type meta struct {
	RequestID string `xml:"requestId"`
}

func (m *meta) setRequestID(id string) { m.RequestID = id }

// done is the reply of operations that return nothing but success.
type done struct {
	meta
	Return bool `xml:"return"`
}

// set is a list in the API's spelling; an empty one is present and empty.
type set[T any] struct {
	Items []T `xml:"item"`
}

// ServeHTTP answers one request of the Query protocol.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := &request{id: aws.NewUUID()}
	answer, err := s.answer(r, req)
	s.record(req, err)
	if err != nil {
		s.writeError(w, req.id, err)
		return
	}
	answer.setRequestID(req.id)
	writeXML(w, http.StatusOK, xml.Name{Space: namespace, Local: req.action + "Response"}, answer)
}

func (s *Server) answer(r *http.Request, req *request) (reply, error) {
	body, err := aws.ReadBody(r, maxBody)
	if err != nil {
		return nil, err
	}
	caller, denied := s.opts.Credentials.Verify(r, body, "ec2", s.opts.Region)
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, refuse("MalformedQueryString", "The query string contains a syntax error.")
	}
	req.params, req.caller, req.action = params{values}, caller, values.Get("Action")
	if fault := s.opts.Faults.Next("ec2"); fault != nil {
		return nil, fault
	}
	if denied != nil {
		return nil, denied
	}
	return s.dispatch(req)
}

func (s *Server) dispatch(req *request) (reply, error) {
	if req.action == "" {
		return nil, refuse("MissingAction", "The request must contain the parameter Action")
	}
	op, ok := s.operations[req.action]
	if !ok {
		return nil, refuse("InvalidAction", "The action %s is not valid for this web service.", req.action)
	}
	if v := req.text("Version"); v != apiVersion {
		return nil, refuse("NoSuchVersion", "The requested version (%s) of service AmazonEC2 does not exist", v)
	}
	for _, name := range op.required {
		if !req.Has(name) {
			return nil, missing(name)
		}
	}
	if err := s.authorize(req); err != nil {
		return nil, err
	}
	dry, err := req.flag("DryRun")
	if err != nil {
		return nil, err
	}
	if dry {
		return nil, wouldSucceed()
	}
	return op.run(s, req)
}

// authorize is all of IAM here: principals of the owning account may do what is
// not denied, others nothing.
func (s *Server) authorize(req *request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.caller.Account != s.opts.Account || slices.Contains(s.st.Denied, req.action) {
		return unauthorized(req.caller, req.action)
	}
	return nil
}

func (s *Server) record(req *request, err error) {
	call := aws.Call{
		Service:   "ec2",
		Operation: req.action,
		Region:    s.opts.Region,
		Principal: req.caller.ARN,
		Key:       req.text("KmsKeyId"),
		Resource:  req.subject(),
		DryRun:    req.Get("DryRun") == "true",
		Result:    "ok",
		RequestID: req.id,
		Time:      s.opts.Now().UTC(),
	}
	if err != nil {
		call.Result = wireError(err).Code
	}
	s.opts.Calls.Add(call)
}

const internalError = "InternalError"

// wireError is what the caller may see of err.
func wireError(err error) *aws.Error {
	var e *aws.Error
	if errors.As(err, &e) {
		return e
	}
	return &aws.Error{Code: internalError, Message: "An internal error has occurred", Status: http.StatusInternalServerError}
}

type errorBody struct {
	Code      string `xml:"Errors>Error>Code"`
	Message   string `xml:"Errors>Error>Message"`
	RequestID string `xml:"RequestID"`
}

func (s *Server) writeError(w http.ResponseWriter, id string, err error) {
	e := wireError(err)
	if e.Code == internalError {
		s.opts.Log.Warn("EC2 request failed", "error", err)
	}
	writeXML(w, e.Status, xml.Name{Local: "Response"}, errorBody{e.Code, e.Message, id})
}

func writeXML(w http.ResponseWriter, status int, root xml.Name, body any) {
	var buf bytes.Buffer
	buf.WriteString(xml.Header)
	if err := xml.NewEncoder(&buf).EncodeElement(body, xml.StartElement{Name: root}); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // a caller who has gone is nobody's error
}
