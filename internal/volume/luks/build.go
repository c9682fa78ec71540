// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/volume"
)

// BuildHeader makes a complete header image of 16 MiB at path (0600): keyslot 0
// for passphrase, and the token that seal returns for it. The image is durable
// and has passed every check of Freeze, and its keyslot has been tried, when
// this returns nil; else path is untouched.
//
// cryptsetup formats an image file and never sees dev, which cannot be harmed.
func (l *LUKS) BuildHeader(ctx context.Context, path, uuid string, dev volume.Device, passphrase *envelope.Secret, seal func(keyslot int, meaning []byte) (envelope.Token, error)) (err error) {
	if err := holdsHeader(dev); err != nil {
		return err
	}
	image := path + ".new" // one name, so that a crash leaves one file at most
	if err := createImage(image); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(image)
		}
	}()
	if err := l.format(ctx, image, uuid, passphrase); err != nil {
		return err
	}
	if err := l.addToken(ctx, image, seal); err != nil {
		return err
	}
	// Proved to open before anything is stored under it.
	if err := l.tryKeyslot(ctx, image, 0, passphrase); err != nil {
		return failed("try the new keyslot", err)
	}
	return commit(image, path)
}

// createImage makes a sparse file somewhat larger than a header: luksFormat
// insists on room for data.
func createImage(path string) error {
	f, err := newFile(path)
	if err != nil {
		return copyFault(err)
	}
	err = f.Truncate(2 * headerBytes)
	if err := errors.Join(err, f.Close()); err != nil {
		return copyFault(err)
	}
	return nil
}

func (l *LUKS) format(ctx context.Context, image, uuid string, passphrase *envelope.Secret) error {
	c, err := formatOptions{image: image, uuid: uuid, passphrase: passphrase}.command()
	if err != nil {
		return err
	}
	if _, err := l.tools.run(ctx, c); err != nil {
		return failed("build the header", err)
	}
	if err := os.Truncate(image, headerBytes); err != nil {
		return copyFault(err)
	}
	return nil
}

// addToken has the token sealed over what the header now means, imports it, and
// judges the result as a stranger's.
func (l *LUKS) addToken(ctx context.Context, image string, seal func(int, []byte) (envelope.Token, error)) error {
	b, err := readMetadata(image)
	if err != nil {
		return err
	}
	m, h, refused := judgeLayout(b)
	if refused != nil {
		return refused
	}
	meaning, err := m.meaning(h.uuid, "0")
	if err != nil {
		return err
	}
	t, err := seal(0, meaning)
	if err != nil {
		return err
	}
	if err := l.importToken(ctx, image, 0, t); err != nil {
		return err
	}
	h, err = l.examine(ctx, image, judge)
	if err != nil {
		return err
	}
	want := []volume.Candidate{{Token: t, Keyslot: 0, Meaning: meaning}}
	if len(h.candidates) != 1 || !bytes.Equal(h.candidates[0].Meaning, meaning) || !reflect.DeepEqual(h.candidates, want) {
		return errors.New("the header that was built is not the one that was sealed")
	}
	return nil
}

func (l *LUKS) importToken(ctx context.Context, image string, id int, t envelope.Token) error {
	raw, err := t.Encode()
	if err != nil {
		return err
	}
	c, err := importOptions{image: image, id: id, token: raw}.command()
	if err != nil {
		return err
	}
	_, err = l.tools.run(ctx, c)
	return failed("put the token into the header", err)
}

// commit makes the image durable under its name.
func commit(image, path string) error {
	if err := syncPath(image); err != nil {
		return copyFault(err)
	}
	if err := os.Rename(image, path); err != nil {
		return copyFault(err)
	}
	if err := syncPath(filepath.Dir(path)); err != nil {
		return copyFault(err)
	}
	return nil
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
