// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// Retoken makes at path (0600, durable) an image of the header on dev whose
// tokens of volseal are exactly these, and which has no keyslot that none of them
// opens; all else is as it is on dev, which is only read. The image has passed every
// check of Freeze; else path is untouched.
//
// cryptsetup edits an image and never the device: it promises no order between
// the two copies, and a power cut between them would leave a header that is
// refused. Restore writes them in an order that a repetition completes.
func (l *LUKS) Retoken(ctx context.Context, dev volume.Device, path string, tokens []envelope.Token) error {
	return l.edit(ctx, dev, path, func(image string) ([]envelope.Token, error) {
		return tokens, l.setTokens(ctx, image, tokens)
	})
}

// editTokens adds before it removes, as everything here does.
func (l *LUKS) editTokens(ctx context.Context, image string, want []envelope.Token) error {
	plan, err := planTokens(image, want)
	if err != nil {
		return err
	}
	for id, t := range plan.add {
		if err := l.importToken(ctx, image, id, t); err != nil {
			return err
		}
	}
	for _, id := range plan.remove {
		c, err := removeTokenOptions{image: image, id: id}.command()
		if err != nil {
			return err
		}
		if _, err := l.tools.run(ctx, c); err != nil {
			return failed("take a token out of the header", err)
		}
	}
	return nil
}

// tokenPlan is what has to be done to the tokens of a header, by their ids.
type tokenPlan struct {
	add    map[int]envelope.Token
	remove []int
}

// planTokens leaves tokens of others alone, and takes away those of ours that
// are not wanted, malformed ones too.
func planTokens(image string, want []envelope.Token) (tokenPlan, error) {
	b, err := readMetadata(image)
	if err != nil {
		return tokenPlan{}, err
	}
	m, _, refused := judgeLayout(b)
	if refused != nil {
		return tokenPlan{}, refused
	}
	taken, present, refused := m.ourTokens()
	if refused != nil {
		return tokenPlan{}, refused
	}
	plan := tokenPlan{add: map[int]envelope.Token{}}
	for _, t := range want {
		if id, found := findToken(present, t); found {
			delete(present, id)
			continue
		}
		id := slices.Index(taken[:], false)
		if id < 0 {
			return tokenPlan{}, errors.New("the header has no room for another token")
		}
		taken[id], plan.add[id] = true, t
	}
	plan.remove = slices.Sorted(maps.Keys(present))
	return plan, nil
}

// ourTokens returns which ids are in use, and the tokens of ours; one that does
// not parse is there as the zero Token.
func (m *metadata) ourTokens() (taken [32]bool, present map[int]envelope.Token, _ *fault.Error) {
	present = map[int]envelope.Token{}
	for name, raw := range m.Tokens {
		id, ok := number(name)
		if !ok {
			return taken, nil, refuse(ruleTokenForeign, fmt.Errorf("token %.32q", name))
		}
		taken[id] = true
		var kind struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(raw, &kind) == nil && kind.Type == envelope.TokenType {
			present[id], _ = envelope.ParseToken(raw)
		}
	}
	return taken, present, nil
}

func findToken(among map[int]envelope.Token, t envelope.Token) (id int, found bool) {
	for _, id := range slices.Sorted(maps.Keys(among)) {
		if reflect.DeepEqual(among[id], t) {
			return id, true
		}
	}
	return 0, false
}

func sameTokens(found []volume.Candidate, want []envelope.Token) bool {
	for _, t := range want {
		if !slices.ContainsFunc(found, func(c volume.Candidate) bool { return reflect.DeepEqual(c.Token, t) }) {
			return false
		}
	}
	return len(found) == len(want)
}

// removeTokenOptions take a token out of an image.
type removeTokenOptions struct {
	image string
	id    int
}

func (o removeTokenOptions) command() (command, error) {
	return command{tool: "cryptsetup", limit: formatLimit, args: []string{
		"token", "remove",
		"--batch-mode", // there is nobody to ask; the image is a file of ours
		"--disable-external-tokens",
		"--token-id", strconv.Itoa(o.id),
		"--", o.image,
	}}, errors.Join(validTokenID(o.id), absolute(o.image))
}

func validTokenID(id int) error {
	if id < 0 || id > 31 {
		return fmt.Errorf("token id %d", id)
	}
	return nil
}
