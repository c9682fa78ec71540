// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const stateFile = "kms.json"

// load reads the state that an earlier emulator left in dir, or begins anew.
func load(dir string) (*state, error) {
	if dir == "" {
		return newState(), nil
	}
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return newState(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read KMS state: %w", err)
	}
	return decodeState(b)
}

func decodeState(b []byte) (*state, error) {
	st := newState()
	if err := json.Unmarshal(b, st); err != nil {
		return nil, fmt.Errorf("decode KMS state: %w", err)
	}
	if st.Version != 1 {
		return nil, fmt.Errorf("decode KMS state: version %d is not 1", st.Version)
	}
	return st, nil
}

func (st *state) encode() ([]byte, error) {
	b, err := json.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("encode KMS state: %w", err)
	}
	return b, nil
}

// save makes an encoded state durable in dir, so that a killed lab finds the
// same keys again.
func save(dir string, b []byte) error {
	temp, err := os.CreateTemp(dir, stateFile+".*")
	if err != nil {
		return fmt.Errorf("write KMS state: %w", err)
	}
	defer func() { _ = os.Remove(temp.Name()) }() // gone already when it was renamed
	if err := writeSync(temp, b); err != nil {
		return fmt.Errorf("write KMS state: %w", err)
	}
	if err := os.Rename(temp.Name(), filepath.Join(dir, stateFile)); err != nil {
		return fmt.Errorf("write KMS state: %w", err)
	}
	return syncDir(dir)
}

func writeSync(f *os.File, b []byte) error {
	_, err := f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync KMS state: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync KMS state: %w", err)
	}
	return nil
}
