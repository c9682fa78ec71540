// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"fmt"
	"net/http"

	"github.com/volseal/volseal/test/lab/aws"
)

// refuse is an error of the caller's, as most are.
func refuse(code, format string, args ...any) *aws.Error {
	return &aws.Error{Code: code, Message: fmt.Sprintf(format, args...), Status: http.StatusBadRequest}
}

func invalid(format string, args ...any) *aws.Error {
	return refuse("InvalidParameterValue", format, args...)
}

func missing(name string) *aws.Error {
	return refuse("MissingParameter", "The request must contain the parameter %s", name)
}

func volumeNotFound(id string) *aws.Error {
	return refuse("InvalidVolume.NotFound", "The volume '%s' does not exist.", id)
}

func snapshotNotFound(id string) *aws.Error {
	return refuse("InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", id)
}

func instanceNotFound(id string) *aws.Error {
	return refuse("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
}

func unauthorized(caller aws.Principal, action string) *aws.Error {
	e := refuse("UnauthorizedOperation", "You are not authorized to perform this operation. User: %s is not authorized to perform: ec2:%s "+
		"because no identity-based policy allows the ec2:%s action", caller.ARN, action, action)
	e.Status = http.StatusForbidden
	return e
}

func wouldSucceed() *aws.Error {
	e := refuse("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
	e.Status = http.StatusPreconditionFailed
	return e
}

// The finders name the error that AWS gives for an id of the wrong shape and
// for one that nothing has. The lock is held.

func (s *Server) volume(id string) (*volume, error) {
	if !isID("vol", id) {
		return nil, refuse("InvalidVolumeID.Malformed", "Invalid id: %q (expecting \"vol-...\")", id)
	}
	if v := s.st.Volumes[id]; v != nil {
		return v, nil
	}
	return nil, volumeNotFound(id)
}

func (s *Server) snapshot(id string) (*snapshot, error) {
	if !isID("snap", id) {
		return nil, refuse("InvalidSnapshotID.Malformed", "Invalid id: %q (expecting \"snap-...\")", id)
	}
	if snap := s.st.Snapshots[id]; snap != nil {
		return snap, nil
	}
	return nil, snapshotNotFound(id)
}

func (s *Server) instance(id string) (*instance, error) {
	if !isID("i", id) {
		return nil, refuse("InvalidInstanceID.Malformed", "Invalid id: %q (expecting \"i-...\")", id)
	}
	if i := s.st.Instances[id]; i != nil {
		return i, nil
	}
	return nil, instanceNotFound(id)
}
