// SPDX-License-Identifier: Apache-2.0

package ebs

import "github.com/volseal/volseal/internal/fault"

// meaning is what an EC2 error code says: its class, why, what to do, and who.
type meaning struct {
	class fault.Class
	cause string // completes "EC2 did not attach vol-…: "
	hint  string
	who   []fault.Owner
}

// Who acts, the likeliest first.
var (
	byPlatform           = []fault.Owner{fault.Platform}
	byAWS                = []fault.Owner{fault.AWS}
	byPlatformOrAWS      = []fault.Owner{fault.Platform, fault.AWS}
	byCustomerOrPlatform = []fault.Owner{fault.Customer, fault.Platform}
)

const (
	clockHint = "Check the instance role and its credentials, and this host's clock (timedatectl): a signature is valid for five minutes."
	roleHint  = "Let the instance role do what the IAM policy that the package ships allows: ec2:DescribeVolumes, ec2:AttachVolume and ec2:DetachVolume; for create and restore also ec2:CreateVolume, ec2:CreateTags, ec2:DescribeInstances, ec2:DescribeSnapshots and ec2:CopySnapshot."
	awsHint   = "Wait: volseal asks again for ever. If it lasts, look at the AWS Health Dashboard."
	wireHint  = "Check this host's route to the EC2 endpoint: VPC endpoint or NAT, security groups, DNS, and AWS_CA_BUNDLE if a proxy is used. volseal asks again for ever."
	paceHint  = "Wait: volseal has slowed down. All hosts of the account share one request limit; find what else uses it up."
)

// meanings is the table of EC2's error codes. The classes follow the design's
// table; a code that is not listed is Unknown unless its HTTP status says more.
//
//nolint:funlen // a table, not a procedure
func meanings() map[string]meaning {
	var (
		identity  = meaning{fault.Identity, "EC2 does not accept this host's credentials.", clockHint, byPlatform}
		expired   = meaning{fault.Identity, "this host's credentials or its request had expired.", clockHint, byPlatform}
		forbidden = meaning{fault.Misconfigured, "this host's role is not allowed to do it.", roleHint, byPlatform}
		broken    = meaning{fault.Unreachable, "EC2 has an error of its own.", awsHint, byAWS}
		throttled = meaning{fault.Throttled, "EC2 gets more requests from this account than it allows.", paceHint, byPlatform}
	)
	return map[string]meaning{
		"AttachmentLimitExceeded": {
			fault.Misconfigured, "this instance has as many attachments as its type allows.",
			"Detach a volume that this host no longer needs, or use a larger instance type. Network cards and instance-store disks count too.", byPlatform,
		},
		"VolumeInUse": {
			// Attach has asked where, and found no attachment to name.
			fault.Unknown, "it is attached already, but EC2 does not say to what.", "Wait: EC2's view may lag behind.", byPlatform,
		},
		"IncorrectState": {
			fault.Unknown, "EC2 is still at work on it, or it is in a state that does not allow this.",
			"Wait. If it lasts, look at the volume's state in EC2: attaching or detaching may be stuck.", byPlatformOrAWS,
		},
		"IncorrectInstanceState": {
			fault.Unknown, "this instance is not in a state that allows it, for example it is about to stop.",
			"Wait until EC2 reports the instance as running.", byPlatform,
		},
		"InvalidAttachment.NotFound": {
			fault.Unknown, "EC2 knows of no such attachment.", "Wait: EC2's view may lag behind.", byPlatformOrAWS,
		},
		"InvalidVolume.NotFound": {
			fault.Misconfigured, "there is no such volume in this region and account.",
			"Check volume_id and region. A new volume that vanished was refused by its CMK: EC2 checks the key after it has said yes.", byPlatform,
		},
		"InvalidVolumeID.Malformed":    {fault.Misconfigured, "EC2 does not take this for a volume id.", "Check volume_id.", byPlatform},
		"InvalidVolumeID.ZoneMismatch": zoneMismatch(),
		"InvalidVolume.ZoneMismatch":   zoneMismatch(),
		"InvalidInstanceID.NotFound": {
			fault.Misconfigured, "EC2 does not know this instance.", "Check instance_id and region in volseal.yaml; without them both come from instance metadata.", byPlatform,
		},
		"InvalidInstanceID.Malformed": {
			fault.Misconfigured, "EC2 does not take our instance id for one.", "Check instance_id in volseal.yaml; without it it comes from instance metadata.", byPlatform,
		},
		"EncryptedVolumesNotSupported": {
			fault.Misconfigured, "this instance type takes no encrypted volumes.", "Use a current instance type.", byPlatform,
		},
		"OperationNotPermitted": {
			fault.Misconfigured, "EC2 never allows it for this volume, for example because the instance boots from it.", "Check volume_id.", byPlatform,
		},
		"UnsupportedOperation": {
			fault.Misconfigured, "EC2 does not support it for this volume and instance.", "Check the volume's type and the instance's type.", byPlatform,
		},
		// It looks like a revoked CMK and often is one, but a role that may not
		// create grants gets the same answer: only KMS itself can tell.
		"CustomerKeyHasBeenRevoked": {
			fault.Unknown, "EC2 could not use the CMK of the EBS layer.",
			"Look at that CMK in KMS. Either it is disabled or pending deletion (the customer must act), or its policy does not let this host's role create grants (kms:CreateGrant with kms:GrantIsForAWSResource).", byCustomerOrPlatform,
		},

		"IdempotentParameterMismatch": {
			fault.Misconfigured, "the client token stands for another request: zone, database, size or key changed after EC2 was first asked.",
			"Put the configuration back as it was when the volume was ordered. Or look in EC2 for a volume with the tag volseal:token of the claim in /var/lib/volseal/claims.", byPlatform,
		},
		"VolumeLimitExceeded": {
			fault.Misconfigured, "the account has as many volumes, or as much storage, as its quota allows in this region.",
			"Delete volumes that nobody needs, or have the EBS quota raised in Service Quotas.", byPlatform,
		},
		"InsufficientVolumeCapacity": {
			fault.Unknown, "this zone has no room for such a volume just now.", "Wait: volseal asks again. If it lasts, ask AWS Support.", byPlatformOrAWS,
		},
		"VolumeTypeNotAvailableInZone": {
			fault.Misconfigured, "this zone has no volumes of type gp3.", "Use a host in another zone.", byPlatform,
		},
		"InvalidZone.NotFound": {
			fault.Misconfigured, "EC2 does not know this instance's zone.", "Check region in volseal.yaml; without it it comes from instance metadata.", byPlatform,
		},
		"TagLimitExceeded": {
			fault.Misconfigured, "it would have more tags than EC2 allows.", "Look for a tag policy that adds tags of its own.", byPlatform,
		},
		"InvalidSnapshot.NotFound": {
			fault.Misconfigured, "there is no such snapshot in this region, or it is not shared with this account.",
			"Check the snapshot's id and region, and whether its owner shares it with this account.", byPlatform,
		},
		"InvalidSnapshotID.Malformed": {fault.Misconfigured, "EC2 does not take this for a snapshot id.", "Check the snapshot's id.", byPlatform},
		"ResourceLimitExceeded": {
			fault.Throttled, "too many snapshots are being copied at once.", "Wait: volseal asks again when others have ended.", byPlatform,
		},
		"SnapshotLimitExceeded": {
			fault.Misconfigured, "the account has as many snapshots as its quota allows.",
			"Delete snapshots that nobody needs, or have the quota raised in Service Quotas.", byPlatform,
		},

		"UnauthorizedOperation": forbidden,
		"AccessDenied":          forbidden,
		"AccessDeniedException": forbidden,
		"OptInRequired": {
			fault.Misconfigured, "the account is not subscribed to EC2 in this region.", "Check region, and the state of the AWS account.", byPlatform,
		},
		"Blocked": {
			fault.Misconfigured, "AWS has blocked the account.", "Ask AWS Support.", byPlatformOrAWS,
		},
		"PendingVerification": {
			fault.Misconfigured, "AWS has not yet verified the account for this region.", "Ask AWS Support.", byPlatformOrAWS,
		},

		"AuthFailure":                 identity,
		"InvalidClientTokenId":        identity,
		"UnrecognizedClientException": identity,
		"MissingAuthenticationToken":  identity,
		"SignatureDoesNotMatch":       identity,
		"InvalidSignatureException":   identity,
		"IncompleteSignature":         identity,
		"ExpiredToken":                expired,
		"ExpiredTokenException":       expired,
		"RequestExpired":              expired,
		"RequestTimeTooSkewed":        expired,

		"RequestLimitExceeded":     throttled,
		"Throttling":               throttled,
		"ThrottlingException":      throttled,
		"RequestThrottled":         throttled,
		"TooManyRequestsException": throttled,
		"EC2ThrottledException":    throttled,

		"InternalError":      broken,
		"InternalFailure":    broken,
		"Unavailable":        broken,
		"ServiceUnavailable": broken,
		"RequestTimeout":     broken,
	}
}

func zoneMismatch() meaning {
	return meaning{
		fault.Misconfigured, "volume and instance are in different availability zones.",
		"A volume cannot move: take a snapshot and restore it in this zone.", byPlatform,
	}
}
