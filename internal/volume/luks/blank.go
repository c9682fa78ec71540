// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/volseal/volseal/internal/volume"
)

// readers at once keep an EBS volume's queue filled without crowding out the
// host's other volumes.
const readers = 4

// CheckBlank reads the whole device through direct I/O, holding it so that
// nobody mounts it meanwhile. progress is called from several goroutines, one
// at a time, with bytes read and total. Errors: Reason "not-blank", naming the
// first byte; "busy"; "io"; the context's.
//
// It is not sped up by asking where the data are: EBS reads blocks never
// written as zeros, and no block device tells which those are.
func (l *LUKS) CheckBlank(ctx context.Context, dev volume.Device, path string, progress func(done, total int64)) error {
	image, err := readImage(path)
	if err != nil {
		return err
	}
	d, err := openDisk(dev, os.O_RDONLY|unix.O_EXCL)
	if err != nil {
		return err
	}
	defer d.close()
	s := &scan{d: d, image: image, progress: progress, found: -1}
	group, ctx := errgroup.WithContext(ctx)
	for range readers {
		group.Go(func() error { return s.read(ctx) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return s.verdict()
}

// readImage reads a header image, or nothing for "".
func readImage(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err == nil && len(b) != headerBytes {
		err = fmt.Errorf("header image is %d bytes long", len(b))
	}
	if err != nil {
		return nil, copyFault(err)
	}
	return b, nil
}

// scan shares the work of reading one device.
type scan struct {
	d        *disk
	image    []byte
	progress func(done, total int64)

	mu    sync.Mutex
	next  int64 // offset of the first chunk that nobody has taken
	done  int64 // bytes read
	found int64 // offset of the first byte that is not blank; -1 for none
}

// read takes chunks until there are none or something was found. Chunks are
// taken in order, so whatever lies before a find is being read and will be told.
func (s *scan) read(ctx context.Context) error {
	b, err := newBuffer(ioChunk)
	if err != nil {
		return err
	}
	defer b.release()
	for {
		off, n := s.take()
		if n == 0 {
			return nil
		}
		part := b[:n]
		if err := s.d.readAt(ctx, part, off); err != nil {
			return err
		}
		s.tell(n, s.firstAlien(part, off))
	}
}

func (s *scan) take() (off, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.found >= 0 {
		return 0, 0
	}
	off = s.next
	n = min(ioChunk, s.d.bytes-off)
	s.next += n
	return off, n
}

func (s *scan) tell(n, alien int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if alien >= 0 && (s.found < 0 || alien < s.found) {
		s.found = alien
	}
	s.done += n
	if s.progress != nil {
		s.progress(s.done, s.d.bytes)
	}
}

// firstAlien returns the offset on the device of the first byte of part that is
// neither zero nor of a block that the image has in that place; -1 for none.
func (s *scan) firstAlien(part []byte, off int64) int64 {
	if off >= int64(len(s.image)) {
		if at := firstNonZero(part); at >= 0 {
			return off + int64(at)
		}
		return -1
	}
	for i := 0; i < len(part); i += blockBytes {
		block, at := part[i:min(i+blockBytes, len(part))], off+int64(i)
		first := firstNonZero(block)
		if first >= 0 && !s.ours(block, at) {
			return at + int64(first)
		}
	}
	return -1
}

func (s *scan) ours(block []byte, at int64) bool {
	end := at + int64(len(block))
	return end <= int64(len(s.image)) && bytes.Equal(block, s.image[at:end])
}

func (s *scan) verdict() error {
	if s.found >= 0 {
		return notBlank(s.found)
	}
	if s.done != s.d.bytes {
		return errors.New("the device was not read to its end")
	}
	return nil
}

// notBlank tells the place but not the content.
func notBlank(at int64) error {
	f := refuse(ruleBlank, nil)
	f.Cause = fmt.Sprintf("The volume is not blank: byte %d is not zero, and init formats only a volume of which every byte is.", at)
	return f
}
