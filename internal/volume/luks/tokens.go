// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// maxPerKeyslot allows the old and the new token of a re-wrap, which share the
// data key and so the keyslot.
const maxPerKeyslot = 2

// candidates returns the sound tokens of ours, by keyslot and then by token id,
// with what each one's MAC covers.
//
// A token of ours that does not parse takes part in nothing. It does not make
// the header unusable as long as each keyslot has a sound one: a later version
// may put its own beside ours, and one bad token must not hide a good one.
func (m *metadata) candidates(uuid string) ([]volume.Candidate, *fault.Error) {
	var found []volume.Candidate
	var malformed *fault.Error
	for _, id := range slices.SortedFunc(maps.Keys(m.Tokens), byNumber) {
		raw := m.Tokens[id]
		ours, err := checkToken(id, raw, m.Keyslots)
		if err != nil {
			return nil, err
		}
		if !ours {
			continue
		}
		c, err := m.candidate(uuid, raw)
		if err != nil {
			malformed = err
			continue
		}
		found = append(found, c)
	}
	if err := m.checkBindings(found); err != nil {
		if malformed != nil {
			return nil, malformed // the likely cause of what is missing
		}
		return nil, err
	}
	slices.SortStableFunc(found, func(a, b volume.Candidate) int { return a.Keyslot - b.Keyslot })
	return found, nil
}

// checkToken judges what holds for every token and tells whether it is ours.
// cryptsetup acts by itself on the types that begin with luks2-: it would ask
// the kernel's keyring for a key that the header names, before it reads ours.
// Others need a plug-in, which we do not let it load; so they cannot matter.
func checkToken(id string, raw json.RawMessage, slots map[string]keyslot) (ours bool, _ *fault.Error) {
	var t struct {
		Type     string   `json:"type"`
		Keyslots []string `json:"keyslots"`
	}
	if _, ok := number(id); !ok {
		return false, refuse(ruleTokenForeign, fmt.Errorf("token %.32q", id))
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return false, refuse(ruleTokenForeign, err)
	}
	if t.Type == envelope.TokenType {
		return true, nil
	}
	if t.Type == "" || len(t.Type) > 64 || strings.HasPrefix(t.Type, "luks2-") || strings.EqualFold(t.Type, envelope.TokenType) {
		return false, refuse(ruleTokenForeign, fmt.Errorf("type %.64q", t.Type))
	}
	for _, slot := range t.Keyslots {
		if _, exists := slots[slot]; !exists {
			return false, refuse(ruleTokenForeign, fmt.Errorf("bound to missing keyslot %.32q", slot))
		}
	}
	return false, nil
}

func (m *metadata) candidate(uuid string, raw json.RawMessage) (volume.Candidate, *fault.Error) {
	t, err := envelope.ParseToken(raw)
	if err != nil {
		return volume.Candidate{}, asFault(err)
	}
	slot, _ := strconv.Atoi(t.Keyslots[0])
	if _, exists := m.Keyslots[t.Keyslots[0]]; !exists {
		return volume.Candidate{}, refuse(ruleKeyslotUnbound, fmt.Errorf("token names missing keyslot %d", slot))
	}
	meaning, err := m.meaning(uuid, t.Keyslots[0])
	if err != nil {
		return volume.Candidate{}, refuse(ruleForm, err)
	}
	return volume.Candidate{Token: t, Keyslot: slot, Meaning: meaning}, nil
}

// checkBindings demands that each keyslot is explained by a token of ours. A
// rotation therefore writes a new keyslot and its token in one header, never
// one after the other.
func (m *metadata) checkBindings(found []volume.Candidate) *fault.Error {
	if len(found) == 0 {
		return refuse(ruleTokenMissing, nil)
	}
	bound := map[string]int{}
	for _, c := range found {
		bound[c.Token.Keyslots[0]]++
	}
	for slot := range m.Keyslots {
		switch n := bound[slot]; {
		case n == 0:
			return refuse(ruleKeyslotUnbound, fmt.Errorf("keyslot %s", slot))
		case n > maxPerKeyslot:
			return refuse(ruleKeyslotTokens, fmt.Errorf("%d tokens for keyslot %s", n, slot))
		}
	}
	return nil
}

// byNumber sorts "2" before "10"; what is no number is refused later.
func byNumber(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

func asFault(err error) *fault.Error {
	var f *fault.Error
	if errors.As(err, &f) {
		return f
	}
	return refuse(ruleForm, err)
}
