// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

var copyName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// Freeze reads from dev what an opening needs of its header, the metadata and
// the keyslots' areas, once, into a new file in Options.Dir (0600, named
// name-XXXX), and judges the copy. On any error the copy is gone. Errors that
// blame the disk have a Reason of Reasons or one of envelope.ParseToken.
func (l *LUKS) Freeze(ctx context.Context, dev volume.Device, name string) (*volume.Header, error) {
	return l.freeze(ctx, dev, name, judge)
}

// FreezeAny is Freeze for a device on which there may be a reencryption of ours
// that has not finished.
func (l *LUKS) FreezeAny(ctx context.Context, dev volume.Device, name string) (*volume.Header, error) {
	return l.freeze(ctx, dev, name, judgeAny)
}

func (l *LUKS) freeze(ctx context.Context, dev volume.Device, name string, by verdict) (*volume.Header, error) {
	if err := holdsHeader(dev); err != nil {
		return nil, err
	}
	if !copyName.MatchString(name) {
		return nil, fmt.Errorf("name %q is malformed", name)
	}
	d, err := openDisk(dev, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer d.close()
	f, err := l.createCopy(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h, err := d.copyHeader(ctx, f, by)
	if err == nil {
		err = h.reaches(dev)
	}
	var judged *volume.Header
	if err == nil {
		judged, err = h.of(f.Name(), dev)
	}
	if err != nil {
		os.Remove(f.Name())
		return nil, err
	}
	return judged, nil
}

// reaches refuses an unfinished reencryption of a device of another size.
func (h *header) reaches(dev volume.Device) error {
	if h.work != nil && !h.work.ends(dev.Bytes-headerBytes) {
		return refuse(ruleSegmentBounds, errors.New("the segments do not end with the device"))
	}
	return nil
}

// of tells of the file at path, which holds this header of dev.
func (h *header) of(path string, dev volume.Device) (*volume.Header, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, copyFault(err)
	}
	defer f.Close()
	sum := sha256.New()
	for _, part := range append([]span{{0, metadataBytes}}, h.areas...) {
		n := part.to - part.from
		if _, err := io.CopyN(sum, io.NewSectionReader(f, part.from, n), n); err != nil {
			return nil, copyFault(err)
		}
	}
	return &volume.Header{
		Path: path, UUID: h.uuid, Sum: [sha256.Size]byte(sum.Sum(nil)), Candidates: h.candidates,
		Key: h.key, Unfinished: h.unfinished(dev),
	}, nil
}

// unfinished is how far a reencryption of dev is, nil if there is none.
func (h *header) unfinished(dev volume.Device) *volume.Unfinished {
	if h.work == nil {
		return nil
	}
	data := dev.Bytes - headerBytes
	return &volume.Unfinished{Done: h.work.done(data), Total: data, Generation: h.work.after.Token.Generation, Key: h.work.newKey}
}

// Discard removes a frozen copy.
func (l *LUKS) Discard(h *volume.Header) {
	if h != nil {
		os.Remove(h.Path)
	}
}

// Sweep removes the copies that a crash left behind. Call it at the start,
// before anything is frozen. They hold nothing secret but take 16 MiB each.
func (l *LUKS) Sweep() error {
	stale, err := filepath.Glob(filepath.Join(l.dir, "*-*"))
	if err != nil {
		return fmt.Errorf("list frozen headers: %w", err)
	}
	var errs []error
	for _, path := range stale {
		errs = append(errs, os.Remove(path))
	}
	return errors.Join(errs...)
}

// verdict is judge or judgeAny.
type verdict func([]byte) (*header, *fault.Error)

// examine applies all three views to a file that nobody else can write to.
func (l *LUKS) examine(ctx context.Context, path string, by verdict) (*header, error) {
	h, err := judgeFile(path, by)
	if err != nil {
		return nil, err
	}
	// Only what we understand and accept reaches cryptsetup's parser.
	return h, l.compareViews(ctx, path, h)
}

func judgeFile(path string, by verdict) (*header, error) {
	b, err := readMetadata(path)
	if err != nil {
		return nil, err
	}
	h, refused := by(b)
	if refused != nil {
		return nil, refused
	}
	return h, nil
}

// readMetadata reads both header copies of a frozen file or image.
func readMetadata(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, copyFault(err)
	}
	defer f.Close()
	b := make([]byte, metadataBytes)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, copyFault(err)
	}
	return b, nil
}

func (l *LUKS) createCopy(name string) (*os.File, error) {
	if err := privateDir(l.dir); err != nil {
		return nil, copyFault(err)
	}
	f, err := os.CreateTemp(l.dir, name+"-*") // 0600, O_EXCL
	if err != nil {
		return nil, copyFault(err)
	}
	return f, nil
}

// copyHeader copies the metadata, and of the rest only the areas of the keyslots
// that the metadata, once accepted, describes; what no opening reads stays a hole.
func (d *disk) copyHeader(ctx context.Context, f *os.File, by verdict) (*header, error) {
	if err := f.Truncate(headerBytes); err != nil {
		return nil, copyFault(err)
	}
	if err := d.copyTo(ctx, f, span{0, metadataBytes}); err != nil {
		return nil, err
	}
	h, err := judgeFile(f.Name(), by)
	if err != nil {
		return nil, err
	}
	for _, area := range h.areas {
		if err := d.copyTo(ctx, f, area); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// copyChunk is what EBS counts as one operation at most. It bounds the memory of a
// boot at which every header of the host is copied at once.
const copyChunk = 256 << 10

// copyTo copies a range to the same place.
func (d *disk) copyTo(ctx context.Context, f *os.File, s span) error {
	b, err := newBuffer(copyChunk)
	if err != nil {
		return err
	}
	defer b.release()
	for at := s.from; at < s.to; at += copyChunk {
		part := b[:min(copyChunk, s.to-at)]
		if err := d.readAt(ctx, part, at); err != nil {
			return err
		}
		if _, err := f.WriteAt(part, at); err != nil {
			return copyFault(err)
		}
	}
	return nil
}

// privateDir makes a directory that only root can look into, or checks that an
// existing one is.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a directory of mode 0700", dir)
	}
	return nil
}

func copyFault(err error) error {
	return &fault.Error{
		Class: fault.Unknown, Reason: "header-copy",
		Cause: "Could not keep a copy of the header.",
		Hint:  "Check space and permissions of /run/volseal and /var/lib/volseal (0700, root).",
		Err:   err,
	}
}
