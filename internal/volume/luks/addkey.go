// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// AddKeyslot makes at path (0600, durable) an image of the header on dev with
// keep and its keyslot, which present opens, and besides it a keyslot for added with
// the token that seal returns; what else there was of ours goes. dev is only read. The image has
// passed every check of Freeze; else path is untouched.
func (l *LUKS) AddKeyslot(ctx context.Context, dev volume.Device, path string, keep envelope.Token, present, added *envelope.Secret, seal func(keyslot int, meaning []byte) (envelope.Token, error)) error {
	return l.edit(ctx, dev, path, func(image string) ([]envelope.Token, error) {
		if err := l.setTokens(ctx, image, []envelope.Token{keep}); err != nil {
			return nil, err
		}
		if err := l.addKey(ctx, image, present, added); err != nil {
			return nil, err
		}
		t, id, err := sealNewSlot(image, keep.Keyslots[0], seal)
		if err != nil {
			return nil, err
		}
		return []envelope.Token{keep, t}, l.importToken(ctx, image, id, t)
	})
}

// edit makes an image by what change does to a copy of the header on dev. The
// result holds exactly the tokens that change returns.
func (l *LUKS) edit(ctx context.Context, dev volume.Device, path string, change func(image string) ([]envelope.Token, error)) (err error) {
	image := path + ".new"
	if err := copyArea(ctx, dev, image); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(image)
		}
	}()
	if err := settleCopies(image); err != nil {
		return err
	}
	want, err := change(image)
	if err != nil {
		return err
	}
	h, err := l.examine(ctx, image, judge)
	if err != nil {
		return err
	}
	if !sameTokens(h.candidates, want) {
		return errors.New("the header that was built does not hold the tokens that were asked for")
	}
	return commit(image, path)
}

// setTokens leaves exactly these tokens of ours, and no keyslot that none of them
// opens. cryptsetup overwrites the key material of one that goes.
func (l *LUKS) setTokens(ctx context.Context, image string, want []envelope.Token) error {
	if err := l.editTokens(ctx, image, want); err != nil || len(want) == 0 {
		return err
	}
	m, _, _, err := layoutOf(image)
	if err != nil {
		return err
	}
	for _, slot := range slices.Sorted(maps.Keys(m.Keyslots)) {
		if slices.ContainsFunc(want, func(t envelope.Token) bool { return slices.Contains(t.Keyslots, slot) }) {
			continue
		}
		id, _ := number(slot)
		c, err := killSlotOptions{image: image, keyslot: id}.command()
		if err != nil {
			return err
		}
		if _, err := l.tools.run(ctx, c); err != nil {
			return failed("destroy the old keyslot", err)
		}
	}
	return nil
}

func (l *LUKS) addKey(ctx context.Context, image string, present, added *envelope.Secret) error {
	c, err := addKeyOptions{image: image, present: present, added: added}.command()
	if err != nil {
		return err
	}
	_, err = l.tools.run(ctx, c)
	return failed("add a keyslot", err)
}

// sealNewSlot has the token of the one keyslot besides old sealed, and returns an
// id that is free for it.
func sealNewSlot(image, old string, seal func(int, []byte) (envelope.Token, error)) (t envelope.Token, id int, err error) {
	m, h, taken, err := layoutOf(image)
	if err != nil {
		return t, 0, err
	}
	slots := slices.DeleteFunc(slices.Sorted(maps.Keys(m.Keyslots)), func(s string) bool { return s == old })
	if id = slices.Index(taken[:], false); id < 0 || len(slots) != 1 {
		return t, 0, errors.New("the header that was built does not hold one keyslot more, or has no room for its token")
	}
	meaning, err := m.meaning(h.uuid, slots[0])
	if err != nil {
		return t, 0, err
	}
	slot, _ := number(slots[0])
	t, err = seal(slot, meaning)
	return t, id, err
}

// layoutOf judges all of an image but its tokens, of which it returns the ids.
func layoutOf(image string) (m *metadata, h *header, taken [32]bool, err error) {
	b, err := readMetadata(image)
	if err != nil {
		return nil, nil, taken, err
	}
	var refused *fault.Error
	if m, h, refused = judgeLayout(b); refused == nil {
		taken, _, refused = m.ourTokens()
	}
	if refused != nil {
		return nil, nil, taken, refused
	}
	return m, h, taken, nil
}

// addKeyOptions add a keyslot to an image.
type addKeyOptions struct {
	image          string
	present, added *envelope.Secret
}

func (o addKeyOptions) command() (command, error) {
	return command{tool: "cryptsetup", limit: formatLimit, stdin: o.present.Bytes(), then: o.added.Bytes(), args: []string{
		"luksAddKey",
		"--batch-mode", // there is nobody to ask; the image is a file of ours
		"--disable-external-tokens",
		"--hash", hash,
		"--pbkdf", "pbkdf2", // see kdfIterations
		"--pbkdf-force-iterations", strconv.Itoa(kdfIterations),
		"--key-file", "-", // both from standard input, one after the other: the sizes part them
		"--keyfile-size", strconv.Itoa(secretBytes),
		"--new-keyfile-size", strconv.Itoa(secretBytes),
		"--", o.image, "-",
	}}, errors.Join(absolute(o.image), validPassphrase(o.present), validPassphrase(o.added))
}

// killSlotOptions destroy a keyslot of an image.
type killSlotOptions struct {
	image   string
	keyslot int
}

func (o killSlotOptions) command() (command, error) {
	return command{tool: "cryptsetup", limit: formatLimit, args: []string{
		"luksKillSlot",
		"--batch-mode", // asks for no passphrase of another keyslot: that is tried before the image is used
		"--disable-external-tokens",
		"--", o.image, strconv.Itoa(o.keyslot),
	}}, errors.Join(validTokenID(o.keyslot), absolute(o.image))
}
