// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"sync"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/envelope/kms"
)

// Self is who and where this host is, by its instance metadata.
type Self struct {
	Account  string // "" if nobody says
	Region   string
	Zone     string
	Instance string
}

// KMS is what is asked about a CMK, as this host's role. kms.Client implements it.
type KMS interface {
	Describe(ctx context.Context, arn string) (kms.Key, error)
	Try(ctx context.Context, p kms.Permission, keyARN string, ec envelope.Context) error
}

// keyAnswers is everything that KMS said of a key.
type keyAnswers struct {
	self        Self
	arn         string
	key         kms.Key
	describeErr error
	tried       map[kms.Permission]error
}

// Key asks KMS whether a key can be used for volumes: what it is, and by dry
// runs each permission, all at the same time. ec is the encryption context of a
// volume under it. A key of another region is not asked about.
func Key(ctx context.Context, k KMS, self Self, arn string, ec envelope.Context) control.KeyReport {
	a := keyAnswers{self: self, arn: arn, tried: map[kms.Permission]error{}}
	if envelope.KeyRegion(arn) != self.Region {
		return a.judge()
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	wg.Go(func() { a.key, a.describeErr = k.Describe(ctx, arn) })
	for _, p := range kms.Permissions() {
		wg.Go(func() {
			err := k.Try(ctx, p, arn, ec)
			mu.Lock()
			defer mu.Unlock()
			a.tried[p] = err
		})
	}
	wg.Wait()
	return a.judge()
}
