// SPDX-License-Identifier: Apache-2.0

package luks

import "github.com/volseal/volseal/internal/envelope"

// meaning is what the MAC of a token covers besides the token: everything in
// the header that decides which bytes are decrypted with which key, seen from
// the one keyslot that the token is bound to. It is canonical JSON
// (docs/header-format.md) of this object, whose keys are, sorted:
//
//	config        the config object as it stands: json_size and keyslots_size
//	digests       the one digest under its id, as it stands but without its
//	              "keyslots", which change when a rotation adds another one
//	keyslots      the token's keyslot alone, under its id, whole as it stands
//	label         "" (policy allows nothing else)
//	requirements  [] (policy allows nothing else)
//	segments      the segments object as it stands: the one segment under "0"
//	subsystem     "" (policy allows nothing else)
//	uuid          of the binary header, lower case
//
// For example, in one line:
//
//	{"config":{"json_size":"12288","keyslots_size":"16744448"},
//	"digests":{"0":{"digest":"…","hash":"sha256","iterations":1000,"salt":"…","segments":["0"],"type":"pbkdf2"}},
//	"keyslots":{"0":{"af":{"hash":"sha256","stripes":4000,"type":"luks1"},
//	"area":{"encryption":"aes-xts-plain64","key_size":64,"offset":"32768","size":"258048","type":"raw"},
//	"kdf":{"hash":"sha256","iterations":1000,"salt":"…","type":"pbkdf2"},"key_size":64,"type":"luks2"}},
//	"label":"","requirements":[],
//	"segments":{"0":{"encryption":"aes-xts-plain64","iv_tweak":"0","offset":"16777216","sector_size":4096,"size":"dynamic","type":"crypt"}},
//	"subsystem":"","uuid":"…"}
//
// Left out, and why: sequence number, salt and checksum of the binary header
// change with each write and select nothing; other keyslots and tokens, so that
// a rotation can add one before it removes another; the keyslot's area, whose
// change can only make the digest fail.
//
// It is sound only together with policy: judge refuses every field that is not
// named here.
func (m *metadata) meaning(uuid, slot string) ([]byte, error) {
	type boundDigest struct {
		Type       string   `json:"type"`
		Segments   []string `json:"segments"`
		Hash       string   `json:"hash"`
		Iterations int      `json:"iterations"`
		Salt       string   `json:"salt"`
		Digest     string   `json:"digest"`
	}
	digests := map[string]boundDigest{}
	for id, d := range m.Digests {
		digests[id] = boundDigest{d.Type, d.Segments, d.Hash, d.Iterations, d.Salt, d.Digest}
	}
	return envelope.Canonical(map[string]any{
		"config":       m.Config,
		"digests":      digests,
		"keyslots":     map[string]keyslot{slot: m.Keyslots[slot]},
		"label":        "",
		"requirements": []string{},
		"segments":     m.Segments,
		"subsystem":    "",
		"uuid":         uuid,
	})
}
