// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"time"
)

// LayerKind names a layer.
type LayerKind string

// The layers, from the disk upwards.
const (
	LayerEBS        LayerKind = "ebs"
	LayerLUKS2      LayerKind = "luks2"
	LayerFilesystem LayerKind = "filesystem"
	LayerEcryptfs   LayerKind = "ecryptfs" // the platform's default encryption; not volseal's
)

// Layers lists every kind.
func Layers() []LayerKind {
	return []LayerKind{LayerEBS, LayerLUKS2, LayerFilesystem, LayerEcryptfs}
}

// Layer is one layer that was seen, never one that ought to be there. A field
// that is not its kind's is left out of the JSON.
type Layer struct {
	Layer     LayerKind  `json:"layer"`
	Encrypted *bool      `json:"encrypted,omitempty"` // ebs: EC2's last word
	KeyARN    string     `json:"key_arn,omitempty"`   // ebs: the CMK that EC2 names
	Asked     *time.Time `json:"asked,omitempty"`     // ebs: when EC2 said so
	UUID      string     `json:"uuid,omitempty"`      // luks2: of the live mapping
	Cipher    string     `json:"cipher,omitempty"`    // luks2: of the kernel's live table
	Type      string     `json:"type,omitempty"`      // filesystem: as mounted
	Path      string     `json:"path,omitempty"`      // ecryptfs: where plaintext is read
	Lower     string     `json:"lower,omitempty"`     // ecryptfs: where its ciphertext lies
}

// toldByCloud is EC2's last answer. It is asked rarely, so its age is shown.
type toldByCloud struct {
	volume CloudVolume
	at     time.Time
}

// liveCipher is what the kernel said of a mapping when it was first seen.
type liveCipher struct {
	uuid         string
	major, minor uint32
	cipher       string
}

func (l liveCipher) of(m Mapping) bool {
	return m.Present && l.uuid == m.UUID && l.major == m.Major && l.minor == m.Minor && l.cipher != ""
}

// lookCipher asks the kernel once for each mapping. Not to know the cipher is
// no failure: nothing is decided by it.
func (w *worker) lookCipher(ctx context.Context, name string, m Mapping) {
	if w.cipher.of(m) {
		return
	}
	w.cipher = liveCipher{}
	if !m.Present || m.UUID == "" {
		return
	}
	cipher, err := w.ports.Crypt.Cipher(ctx, name)
	if err != nil {
		w.log.Debug("cipher not read", "error", err)
		return
	}
	w.cipher = liveCipher{m.UUID, m.Major, m.Minor, cipher}
}

// layers are those that this pass saw, from the disk upwards. It is never nil.
func layers(o observed, told toldByCloud, live liveCipher) []Layer {
	list := make([]Layer, 0, 3+len(o.mount.Ecryptfs))
	if told.volume.ID != "" && told.volume.ID == o.volumeID {
		encrypted := told.volume.Encrypted
		list = append(list, Layer{Layer: LayerEBS, Encrypted: &encrypted, KeyARN: told.volume.KeyARN, Asked: timeOrNil(told.at)})
	}
	if o.mapping.UUID != "" {
		l := Layer{Layer: LayerLUKS2, UUID: o.mapping.UUID}
		if live.of(o.mapping) {
			l.Cipher = live.cipher
		}
		list = append(list, l)
	}
	if o.mount.Mounted {
		list = append(list, Layer{Layer: LayerFilesystem, Type: o.mount.Filesystem})
	}
	for _, e := range o.mount.Ecryptfs {
		list = append(list, Layer{Layer: LayerEcryptfs, Path: e.Path, Lower: e.Lower})
	}
	return list
}
