// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// maxKeyslots is twice what the richest rotation needs: an old and a new one.
const maxKeyslots = 4

// header is a frozen header that passed policy.
type header struct {
	sum        [sha256.Size]byte // of both copies
	uuid       string
	canonical  []byte // its metadata
	key        string // the digest of the volume key
	digestID   int    // names the volume key in the kernel's keyring
	areas      []span // of its keyslots
	candidates []volume.Candidate
	work       *work // of a reencryption that has not finished, or nil
}

// judge applies policy to the first 32 KiB of a header. It reads no key, asks
// nobody, and decides everything that can be decided without a key.
func judge(b []byte) (*header, *fault.Error) {
	m, h, err := judgeLayout(b)
	if err != nil {
		return nil, err
	}
	return h, m.judgeTokens(h)
}

// judge is judge for metadata that was decoded already.
func (m *metadata) judge(uuid string, canonical []byte) (*header, *fault.Error) {
	h, err := m.judgeLayout(uuid, canonical)
	if err != nil {
		return nil, err
	}
	return h, m.judgeTokens(h)
}

func (m *metadata) judgeTokens(h *header) (err *fault.Error) {
	h.candidates, err = m.candidates(h.uuid)
	return err
}

// judgeLayout judges everything but the tokens, which a header under
// construction does not have yet.
func judgeLayout(b []byte) (*metadata, *header, *fault.Error) {
	c, err := decodeCopies(b)
	if err != nil {
		return nil, nil, err
	}
	m, canonical, err := decodeMetadata(c.json)
	if err != nil {
		return nil, nil, err
	}
	h, err := m.judgeLayout(c.uuid, canonical)
	if err != nil {
		return nil, nil, err
	}
	h.sum = sha256.Sum256(b)
	return &m, h, nil
}

func (m *metadata) judgeLayout(uuid string, canonical []byte) (*header, *fault.Error) {
	for _, check := range []func() *fault.Error{m.checkConfig, m.checkSegments} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	areas, err := m.checkKeyslots()
	if err != nil {
		return nil, err
	}
	id, err := m.checkDigests()
	if err != nil {
		return nil, err
	}
	return &header{uuid: uuid, canonical: canonical, key: m.Digests[strconv.Itoa(id)].Digest, digestID: id, areas: areas}, nil
}

func (m *metadata) checkConfig() *fault.Error {
	if m.Config != (config{JSONSize: strconv.Itoa(jsonBytes), KeyslotsSize: strconv.Itoa(keyslotsBytes)}) {
		return refuse(ruleConfig, fmt.Errorf("%+v", m.Config))
	}
	return nil
}

func (m *metadata) checkSegments() *fault.Error {
	s, one := m.Segments["0"]
	switch {
	case !one || len(m.Segments) != 1:
		return refuse(ruleSegmentCount, fmt.Errorf("%d segments", len(m.Segments)))
	case s.Encryption != cipher:
		return refuse(ruleSegmentCipher, fmt.Errorf("%.32q", s.Encryption))
	case s.Offset != strconv.Itoa(headerBytes) || s.Size != "dynamic":
		return refuse(ruleSegmentBounds, fmt.Errorf("offset %.32q, size %.32q", s.Offset, s.Size))
	case s.SectorSize != sectorBytes:
		return refuse(ruleSectorSize, fmt.Errorf("%d", s.SectorSize))
	case s.IVTweak != "0":
		return refuse(ruleSegmentIV, fmt.Errorf("%.32q", s.IVTweak))
	}
	return nil
}

// checkKeyslots also returns where they lie.
func (m *metadata) checkKeyslots() (areas []span, _ *fault.Error) {
	if len(m.Keyslots) < 1 || len(m.Keyslots) > maxKeyslots {
		return nil, refuse(ruleKeyslotCount, fmt.Errorf("%d keyslots", len(m.Keyslots)))
	}
	for _, id := range slices.Sorted(maps.Keys(m.Keyslots)) {
		if _, ok := number(id); !ok {
			return nil, refuse(ruleKeyslotCount, fmt.Errorf("keyslot %.32q", id))
		}
		k := m.Keyslots[id]
		if err := k.check(); err != nil {
			return nil, err
		}
		at, err := k.Area.span()
		if err != nil {
			return nil, refuse(ruleKeyslotArea, err)
		}
		if slices.ContainsFunc(areas, at.meets) {
			return nil, refuse(ruleKeyslotArea, errors.New("areas overlap"))
		}
		areas = append(areas, at)
	}
	return areas, nil
}

func (k keyslot) check() *fault.Error {
	switch {
	case k.KeySize != keyBytes:
		return refuse(ruleKeyslotKey, fmt.Errorf("%d", k.KeySize))
	case k.Area.Encryption != cipher || k.Area.KeySize != keyBytes: // no null cipher, no short key
		return refuse(ruleKeyslotCipher, fmt.Errorf("%.32q, %d", k.Area.Encryption, k.Area.KeySize))
	case k.AF != af{Type: "luks1", Stripes: stripes, Hash: hash}:
		return refuse(ruleKeyslotAF, fmt.Errorf("%.32q, %d, %.32q", k.AF.Type, k.AF.Stripes, k.AF.Hash))
	case k.KDF.Type != "pbkdf2" || k.KDF.Hash != hash || !iterationsBounded(k.KDF.Iterations) || !base64Of(k.KDF.Salt, saltBytes):
		return refuse(ruleKeyslotKDF, fmt.Errorf("%.32q, %.32q, %d", k.KDF.Type, k.KDF.Hash, k.KDF.Iterations))
	}
	return nil
}

// span is a range of bytes.
type span struct{ from, to int64 }

func (s span) meets(o span) bool { return s.from < o.to && o.from < s.to }

// span returns where the area lies; only one size, aligned, between metadata and data.
func (a area) span() (span, error) {
	from, err := strconv.ParseInt(a.Offset, 10, 64)
	to := from + stripedBytes
	plausible := err == nil && strconv.FormatInt(from, 10) == a.Offset && from%blockBytes == 0 &&
		from >= metadataBytes && from <= headerBytes-stripedBytes
	if !plausible || a.Type != "raw" || a.Size != strconv.Itoa(stripedBytes) {
		return span{}, fmt.Errorf("type %.32q, offset %.32q, size %.32q", a.Type, a.Offset, a.Size)
	}
	return span{from, to}, nil
}

// checkDigests demands one digest, over every keyslot and the one segment: a
// keyslot without it could hold a key that nobody vouches for.
func (m *metadata) checkDigests() (id int, _ *fault.Error) {
	if len(m.Digests) != 1 {
		return 0, refuse(ruleDigestCount, fmt.Errorf("%d digests", len(m.Digests)))
	}
	for name, d := range m.Digests {
		n, ok := number(name)
		if !ok {
			return 0, refuse(ruleDigestCount, fmt.Errorf("digest %.32q", name))
		}
		id = n
		if !d.formed() {
			return 0, refuse(ruleDigestKind, fmt.Errorf("%.32q, %.32q, %d", d.Type, d.Hash, d.Iterations))
		}
		covered := slices.Sorted(slices.Values(d.Keyslots))
		if !slices.Equal(covered, slices.Sorted(maps.Keys(m.Keyslots))) || !slices.Equal(d.Segments, []string{"0"}) {
			return 0, refuse(ruleDigestCoverage, fmt.Errorf("keyslots %.64q, segments %.64q", d.Keyslots, d.Segments))
		}
	}
	return id, nil
}

func (d digest) formed() bool {
	return d.Type == "pbkdf2" && d.Hash == hash && iterationsBounded(d.Iterations) && base64Of(d.Salt, saltBytes) && base64Of(d.Digest, digestBytes)
}

func iterationsBounded(n int) bool { return n >= kdfIterations && n <= maxIterations }

// number reads the id of an object: 0 to 31, in its one spelling.
func number(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0 && n < 32 && strconv.Itoa(n) == s
}

// base64Of reports whether s is n bytes in base64's one padded spelling.
func base64Of(s string, n int) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == n && base64.StdEncoding.EncodeToString(b) == s
}
