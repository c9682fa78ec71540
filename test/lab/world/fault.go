// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"fmt"
	"net/http"

	"github.com/volseal/volseal/test/lab/aws"
)

// SetFault gives a service ("kms", "ec2", "imds") one fault in place of any it
// has: off, blackhole, reset, latency=D on the wire; throttle, error=CODE[:N] in
// the service.
func (w *World) SetFault(ctx context.Context, service, fault string) error {
	target, ok := w.wires[service]
	if !ok {
		return &aws.Error{Code: "NoSuchService", Message: fmt.Sprintf("%q is no service of this world", service), Status: http.StatusNotFound}
	}
	onWire, ok, err := toxics(fault)
	if err != nil {
		return badFault(err)
	}
	inService := fault
	if ok {
		inService = "off"
	}
	w.faultMu.Lock()
	defer w.faultMu.Unlock()
	if err := w.faults.Set(service, inService); err != nil {
		return badFault(fmt.Errorf("%w; on the wire: off, blackhole, reset or latency=D", err))
	}
	return target.set(ctx, onWire, fault != "off")
}

func badFault(err error) error {
	return &aws.Error{Code: "InvalidFault", Message: err.Error(), Status: http.StatusBadRequest}
}
