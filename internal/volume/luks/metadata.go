// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// metadata is the JSON of a header as this program writes it (LUKS2 On-Disk
// Format Specification 1.1.1, chapter 3). What it has no field for is refused.
type metadata struct {
	Keyslots map[string]keyslot         `json:"keyslots"`
	Tokens   map[string]json.RawMessage `json:"tokens"`
	Segments map[string]segment         `json:"segments"`
	Digests  map[string]digest          `json:"digests"`
	Config   config                     `json:"config"`
}

type keyslot struct {
	Type    string `json:"type"`
	KeySize int    `json:"key_size"` // bytes of the volume key
	AF      af     `json:"af"`
	Area    area   `json:"area"`
	KDF     kdf    `json:"kdf"`
}

type af struct {
	Type    string `json:"type"`
	Stripes int    `json:"stripes"`
	Hash    string `json:"hash"`
}

type area struct {
	Type       string `json:"type"`
	Offset     string `json:"offset"` // decimal, bytes
	Size       string `json:"size"`   // decimal, bytes
	Encryption string `json:"encryption"`
	KeySize    int    `json:"key_size"` // bytes
}

type kdf struct {
	Type       string `json:"type"`
	Hash       string `json:"hash"`
	Iterations int    `json:"iterations"`
	Salt       string `json:"salt"` // base64
}

type segment struct {
	Type       string `json:"type"`
	Offset     string `json:"offset"`
	Size       string `json:"size"` // "dynamic": to the end of the device
	IVTweak    string `json:"iv_tweak"`
	Encryption string `json:"encryption"`
	SectorSize int    `json:"sector_size"`
}

type digest struct {
	Type       string   `json:"type"`
	Keyslots   []string `json:"keyslots"`
	Segments   []string `json:"segments"`
	Hash       string   `json:"hash"`
	Iterations int      `json:"iterations"`
	Salt       string   `json:"salt"`   // base64
	Digest     string   `json:"digest"` // base64
}

type config struct {
	JSONSize     string `json:"json_size"`
	KeyslotsSize string `json:"keyslots_size"`
}

// oddities are the known features that this program refuses. They are looked
// for before the strict reading, so that each is refused by its own name.
type oddities struct {
	Keyslots map[string]struct {
		Type     string          `json:"type"`
		Priority json.RawMessage `json:"priority"`
	} `json:"keyslots"`
	Segments map[string]struct {
		Type      string          `json:"type"`
		Flags     json.RawMessage `json:"flags"`
		Integrity json.RawMessage `json:"integrity"`
	} `json:"segments"`
	Config struct {
		Flags        json.RawMessage `json:"flags"`
		Requirements json.RawMessage `json:"requirements"`
	} `json:"config"`
}

// decodeMetadata reads the JSON strictly. canonical is its canonical form, by
// which two readings are compared.
func decodeMetadata(raw []byte) (m metadata, canonical []byte, _ *fault.Error) {
	canonical, err := envelope.CanonicalJSON(raw)
	if err != nil {
		return m, nil, refuse(ruleJSON, err)
	}
	if err := checkOddities(canonical); err != nil {
		return m, nil, err
	}
	d := json.NewDecoder(bytes.NewReader(canonical))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, nil, refuse(ruleForm, err)
	}
	// The decoder forgives missing fields, null, and names in another case. Written
	// again none of them is the same, but for null where an object may be absent.
	again, err := envelope.Canonical(m)
	if err != nil || !bytes.Equal(again, canonical) || m.Keyslots == nil || m.Tokens == nil || m.Segments == nil || m.Digests == nil {
		return m, nil, refuse(ruleForm, errors.Join(err, errors.New("fields are missing, or named or typed otherwise")))
	}
	return m, canonical, nil
}

func checkOddities(canonical []byte) *fault.Error {
	var o oddities
	if err := json.Unmarshal(canonical, &o); err != nil {
		return refuse(ruleForm, err)
	}
	// Requirements first: a faked reencryption brings most of the others along.
	if o.Config.Requirements != nil {
		return refuse(ruleRequirements, fmt.Errorf("%.200s", o.Config.Requirements))
	}
	if o.Config.Flags != nil {
		return refuse(ruleConfigFlags, fmt.Errorf("%.200s", o.Config.Flags))
	}
	for _, s := range o.Segments {
		switch {
		case s.Flags != nil:
			return refuse(ruleSegmentFlags, nil)
		case s.Integrity != nil:
			return refuse(ruleIntegrity, nil)
		case s.Type != "crypt":
			return refuse(ruleSegmentType, fmt.Errorf("%.32q", s.Type))
		}
	}
	for _, k := range o.Keyslots {
		switch {
		case k.Type != "luks2":
			return refuse(ruleKeyslotType, fmt.Errorf("%.32q", k.Type))
		case k.Priority != nil:
			return refuse(ruleKeyslotPriority, nil)
		}
	}
	return nil
}
