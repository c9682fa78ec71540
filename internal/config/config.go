// SPDX-License-Identifier: Apache-2.0

package config

import (
	"time"

	"github.com/volseal/volseal/internal/volume"
)

// Dir is where the configuration lives.
const Dir = "/etc/volseal"

// Config is the whole configuration, checked, with defaults filled in.
type Config struct {
	Region          string // "": ask instance metadata
	InstanceID      string // "": ask instance metadata
	MetricsListen   string // host:port
	KMS             KMS
	Cache           Cache
	OnRevocation    volume.Policy // of volumes that have none of their own
	RevocationGrace time.Duration
	OperatorGroup   string
	NVMeModels      []string // controller models taken for EBS
	Volumes         []volume.Spec
}

// KMS bounds the requests to KMS and the life of a proof.
type KMS struct {
	Timeout       time.Duration // of one try; always shorter than ProofMaxAge
	ProofMaxAge   time.Duration // at most a minute: it is how long a revoked key may still mount
	ProbeInterval time.Duration // between two Decrypts for a mounted volume
}

// Cache bounds the life and the sharing of data keys in memory.
type Cache struct {
	TTL                  time.Duration
	MaxVolumesPerDataKey int
}

// defaults is what an empty volseal.yaml means.
func defaults() Config {
	return Config{
		MetricsListen:   "127.0.0.1:9797",
		KMS:             KMS{Timeout: 5 * time.Second, ProofMaxAge: 10 * time.Second, ProbeInterval: time.Minute},
		Cache:           Cache{TTL: 5 * time.Minute, MaxVolumesPerDataKey: 16},
		OnRevocation:    volume.DenyNew,
		RevocationGrace: 15 * time.Minute,
		OperatorGroup:   "volseal-operators",
		NVMeModels:      []string{"Amazon Elastic Block Store"},
	}
}
