// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// A symmetric CiphertextBlob, opaque to clients as on AWS, is
//
//	magic (5) | length of ARN (1) | key ARN | backing key version (4) | salt (32) | nonce (12) | AES-256-GCM ciphertext and tag
//
// Everything before the ciphertext, and the encryption context, is additional
// authenticated data. The AES key is derived from the backing key and the salt,
// so no two blobs share one. A 32-byte data key makes a blob of about 180 bytes,
// as on AWS; the magic is what AWS's blobs begin with ("AQICAHh…" in base64).
const (
	blobMagic = "\x01\x02\x02\x00\x78"
	saltSize  = 32
	nonceSize = 12
	tagSize   = 16
)

// blob is a taken-apart CiphertextBlob.
type blob struct {
	keyARN  string
	version uint32
	salt    []byte
	nonce   []byte
	sealed  []byte
	header  []byte // all before sealed, as it stood
}

// parseBlob takes apart what may be a blob; ok is false when it is none.
func parseBlob(b []byte) (p blob, ok bool) {
	rest, ok := bytes.CutPrefix(b, []byte(blobMagic))
	if !ok || len(rest) < 1 {
		return blob{}, false
	}
	arnLen := int(rest[0])
	rest = rest[1:]
	if len(rest) < arnLen+4+saltSize+nonceSize+tagSize {
		return blob{}, false
	}
	p.keyARN, rest = string(rest[:arnLen]), rest[arnLen:]
	p.version, rest = binary.BigEndian.Uint32(rest), rest[4:]
	p.salt, rest = rest[:saltSize], rest[saltSize:]
	p.nonce, p.sealed = rest[:nonceSize], rest[nonceSize:]
	p.header = b[:len(b)-len(p.sealed)]
	return p, true
}

// sealBlob encrypts plaintext under the newest backing key of k.
func sealBlob(k *key, context map[string]string, plaintext []byte) ([]byte, error) {
	version := uint32(len(k.Backing) - 1)
	header := append([]byte(blobMagic), byte(len(k.ARN)))
	header = append(header, k.ARN...)
	header = binary.BigEndian.AppendUint32(header, version)
	random := make([]byte, saltSize+nonceSize)
	_, _ = rand.Read(random) // never fails: it ends the process instead
	header = append(header, random...)
	aead, err := blobCipher(k.Backing[version], random[:saltSize])
	if err != nil {
		return nil, err
	}
	return aead.Seal(header, random[saltSize:], plaintext, authenticated(header, context)), nil
}

// openBlob decrypts p, whose key ARN the caller has found to be k's.
func openBlob(k *key, context map[string]string, p blob) ([]byte, error) {
	if int64(p.version) >= int64(len(k.Backing)) {
		return nil, invalidCiphertext()
	}
	aead, err := blobCipher(k.Backing[p.version], p.salt)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, p.nonce, p.sealed, authenticated(p.header, context))
	if err != nil {
		return nil, invalidCiphertext()
	}
	return plaintext, nil
}

func blobCipher(backing, salt []byte) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, backing, salt, "lab kms blob v1", 32)
	if err != nil {
		return nil, fmt.Errorf("derive blob key: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("make cipher mode: %w", err)
	}
	return aead, nil
}

// authenticated is the header and the encryption context in one canonical form:
// pairs in the order of their keys, each string behind its length, so that no
// two contexts read the same.
func authenticated(header []byte, context map[string]string) []byte {
	out := slices.Clone(header)
	for _, k := range slices.Sorted(maps.Keys(context)) {
		for _, s := range []string{k, context[k]} {
			out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
			out = append(out, s...)
		}
	}
	return out
}
