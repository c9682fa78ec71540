// SPDX-License-Identifier: Apache-2.0

package ec2

import (
	"fmt"
	"os"
)

// ImagePath is the absolute path of a volume's raw image.
func (s *Server) ImagePath(volumeID string) (string, error) {
	if _, err := s.Volume(volumeID); err != nil {
		return "", err
	}
	return s.volumePath(volumeID), nil
}

// maxRaw bounds the bytes of one raw read or write.
const maxRaw = int64(64) << 20

// WriteImage overwrites bytes of a volume that nothing is attached to, as an
// attacker would who has the raw volume.
func (s *Server) WriteImage(volumeID string, offset int64, content []byte) error {
	return s.withImage(volumeID, offset, int64(len(content)), func(f *os.File) error {
		if _, err := f.WriteAt(content, offset); err != nil {
			return err
		}
		return f.Sync()
	})
}

// ReadImage reads bytes of a volume that nothing is attached to.
func (s *Server) ReadImage(volumeID string, offset, length int64) ([]byte, error) {
	content := make([]byte, 0)
	err := s.withImage(volumeID, offset, length, func(f *os.File) error {
		content = make([]byte, length)
		_, err := f.ReadAt(content, offset)
		return err
	})
	return content, err
}

// withImage opens an image for raw access. The lock is held meanwhile, so that
// no attach can begin.
func (s *Server) withImage(volumeID string, offset, length int64, use func(*os.File) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.volume(volumeID)
	if err != nil {
		return err
	}
	if v.State == inUse {
		return refuse("VolumeInUse", "Volume %s is attached to %s: its image is the machine's", volumeID, v.Attachments[0].Instance)
	}
	if v.State != available {
		return refuse("IncorrectState", "Volume '%s' is in the '%s' state.", volumeID, v.State)
	}
	size := int64(v.Size) * gib
	if length > maxRaw {
		return invalid("At most %d bytes at a time, not %d", maxRaw, length)
	}
	if offset < 0 || length < 0 || offset > size || length > size-offset {
		return invalid("Bytes %d to %d are outside a volume of %d bytes", offset, offset+length, size)
	}
	f, err := os.OpenFile(s.volumePath(volumeID), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open image: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := use(f); err != nil {
		return fmt.Errorf("access image of %s: %w", volumeID, err)
	}
	return nil
}
