// SPDX-License-Identifier: Apache-2.0

package world

import (
	"crypto/rand"

	"github.com/volseal/volseal/test/lab/aws"
	"github.com/volseal/volseal/test/lab/ec2"
)

// Who and where everything is in the emulated AWS.
const (
	Region          = "us-east-1"
	Zone            = Region + "a"
	PlatformAccount = "916150859591" // ours: the instance, the volumes
	CustomerAccount = "111111111111" // the keys
	Role            = "volseal-host"
	Instance        = ec2.OurInstance
)

// operator is who labctl acts as: somebody in the platform's account who is not
// the instance.
func operator() aws.Principal { return aws.AssumedRole(PlatformAccount, "lab-operator", "labctl") }

// newCredential is a session of the instance role, new at each start: nothing
// secret is worth keeping.
func newCredential() aws.Credential {
	return aws.Credential{
		AccessKeyID:     "ASIA" + rand.Text()[:16],
		SecretAccessKey: rand.Text() + rand.Text()[:14],
		SessionToken:    rand.Text() + rand.Text(),
		Principal:       aws.AssumedRole(PlatformAccount, Role, Instance),
	}
}
