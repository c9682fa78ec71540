// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// A reencryption that has not finished is two headers in one: the one from before,
// whose volume key encrypts the end of the data, and the one from after, whose key
// encrypts the beginning. Each must be a header that policy admits by itself, with
// a token of ours whose MAC covers it as it stood, or will stand, alone. So
// nobody who does not hold the data key can have named either key, or turned the
// direction round (CVE-2021-4122): what he can still do is to move the border
// between the two, which makes garbage of data as any write to the disk does.
//
// Only who knows that there is one asks for it to be admitted: see judgeAny.

// reencryptRequirement is all that cryptsetup 2.4 and later puts there.
const reencryptRequirement = "online-reencrypt-v2"

// The flags of segments while there is a reencryption.
const (
	flagPrevious = "backup-previous"
	flagFinal    = "backup-final"
	flagHot      = "in-reencryption"
)

// unfinished is the metadata of an unfinished reencryption as cryptsetup writes it
// for a header of ours. What it has no field for is refused.
type unfinished struct {
	Keyslots map[string]json.RawMessage `json:"keyslots"`
	Tokens   map[string]json.RawMessage `json:"tokens"`
	Segments map[string]workSegment     `json:"segments"`
	Digests  map[string]digest          `json:"digests"`
	Config   workConfig                 `json:"config"`
}

type workSegment struct {
	segment
	Flags []string `json:"flags,omitempty"`
}

type workConfig struct {
	config
	Requirements requirements `json:"requirements"`
}

type requirements struct {
	Mandatory []string `json:"mandatory"`
}

// workKeyslot holds the parameters of the reencryption, and in its area what a hot
// zone is recovered by. It holds no key.
type workKeyslot struct {
	Type      string   `json:"type"`
	KeySize   int      `json:"key_size"`
	Mode      string   `json:"mode"`
	Direction string   `json:"direction"`
	Priority  int      `json:"priority"`
	Area      workArea `json:"area"`
}

type workArea struct {
	Type       string `json:"type"`
	Hash       string `json:"hash"`
	SectorSize int    `json:"sector_size"`
	Offset     string `json:"offset"`
	Size       string `json:"size"`
}

// stretch is a part of the data, from the beginning of the data, in bytes.
type stretch struct {
	from, to int64 // to is 0 where it goes on to the end of the device
	digest   int   // of its key; of the new one where it is hot
	hot      bool  // it was being reencrypted: only a recovery tells by which key
}

// work is an unfinished reencryption that passed policy.
type work struct {
	stretches     []stretch
	before, after volume.Candidate
	newDigest     int
	newKey        string // what that digest is
	identity      []byte // canonical: all of it but how far it is
}

// side is one of the two headers.
type side struct {
	slot, digest string
	meta         metadata
}

// judgeAny judges a header that may hold an unfinished reencryption. Where one may
// be, the copies may differ: cryptsetup writes one after the other, and an opening
// completes that. Both are then sound but for one that was cut short, and the
// newer one counts, as it does for cryptsetup.
func judgeAny(b []byte) (*header, *fault.Error) {
	h, err := judgeEither(b)
	if err != nil {
		return nil, err
	}
	h.sum = sha256.Sum256(b)
	return h, nil
}

func judgeEither(b []byte) (*header, *fault.Error) {
	c, err := newestCopy(b)
	if err != nil {
		return nil, err
	}
	m, canonical, err := decodeMetadata(c.json)
	if err == nil {
		return m.judge(c.uuid, canonical)
	}
	if rule(err.Reason) != ruleRequirements {
		return nil, err
	}
	return judgeUnfinished(c)
}

func newestCopy(b []byte) (copyOf, *fault.Error) {
	primary, first := decodeCopy(b[:areaBytes], primaryMagic, 0)
	secondary, second := decodeCopy(b[areaBytes:metadataBytes], secondaryMagic, areaBytes)
	switch {
	case first != nil && second != nil:
		return copyOf{}, first
	case first != nil:
		return secondary, nil //nolint:nilerr // one copy is enough: the other was being written
	case second != nil:
		return primary, nil //nolint:nilerr // as above
	}
	same := primary.sequence == secondary.sequence
	near := primary.sequence == secondary.sequence+1 || secondary.sequence == primary.sequence+1
	switch {
	case primary.uuid != secondary.uuid, !same && !near, same && !bytes.Equal(primary.json, secondary.json):
		return copyOf{}, refuse(ruleCopies, fmt.Errorf("sequence %d and %d", primary.sequence, secondary.sequence))
	case secondary.sequence > primary.sequence:
		return secondary, nil
	}
	return primary, nil
}

// settleCopies makes the two copies in an image of ours equal where the writing of
// one was cut short in a reencryption, and of the age of the newer one: what
// is written over the device next must not be two ages from what is there. Anything
// else it leaves for policy to refuse.
func settleCopies(image string) error {
	b, err := readMetadata(image)
	if err != nil {
		return err
	}
	_, differ := decodeCopies(b)
	c, unsound := newestCopy(b)
	if differ == nil || unsound != nil {
		return nil //nolint:nilerr // policy says so itself
	}
	if newest, err := decodeCopy(b[:areaBytes], primaryMagic, 0); err == nil && newest.sequence == c.sequence {
		copyOver(b[areaBytes:metadataBytes], b[:areaBytes], secondaryMagic, areaBytes)
	} else {
		copyOver(b[:areaBytes], b[areaBytes:metadataBytes], primaryMagic, 0)
	}
	return writeCopies(image, b)
}

func copyOver(to, from []byte, magic string, offset uint64) {
	copy(to, from)
	copy(to, magic)
	binary.BigEndian.PutUint64(to[offOffset:], offset)
	sign(to)
}

func judgeUnfinished(c copyOf) (*header, *fault.Error) {
	u, canonical, err := decodeUnfinished(c.json)
	if err != nil {
		return nil, err
	}
	before, after, err := u.sides()
	if err != nil {
		return nil, err
	}
	w := &work{}
	h := &header{uuid: c.uuid, canonical: canonical, work: w}
	for _, s := range []struct {
		side
		candidate *volume.Candidate
	}{{before, &w.before}, {after, &w.after}} {
		one, err := s.meta.judge(c.uuid, nil)
		if err != nil {
			return nil, err
		}
		if len(one.candidates) != 1 {
			return nil, refuse(ruleKeyslotTokens, fmt.Errorf("%d tokens for keyslot %s", len(one.candidates), s.slot))
		}
		*s.candidate = one.candidates[0]
		h.areas = append(h.areas, one.areas...)
	}
	if err := w.pair(); err != nil {
		return nil, err
	}
	if err := u.checkWork(before, after, h.areas); err != nil {
		return nil, err
	}
	h.digestID, _ = number(after.digest)
	w.newDigest, w.newKey = h.digestID, u.Digests[after.digest].Digest
	if w.stretches, err = u.stretches(before, after); err != nil {
		return nil, err
	}
	h.candidates = w.both()
	w.identity, err = u.identity()
	return h, err
}

func decodeUnfinished(raw []byte) (u unfinished, canonical []byte, _ *fault.Error) {
	canonical, err := envelope.CanonicalJSON(raw)
	if err != nil {
		return u, nil, refuse(ruleJSON, err)
	}
	if err := strictly(canonical, &u); err != nil {
		return u, nil, refuse(ruleRequirements, err)
	}
	if !slices.Equal(u.Config.Requirements.Mandatory, []string{reencryptRequirement}) {
		return u, nil, refuse(ruleRequirements, fmt.Errorf("%.64q", u.Config.Requirements.Mandatory))
	}
	return u, canonical, nil
}

// strictly decodes canonical JSON, and refuses what is not the same when it is
// written again: missing fields, null, names in another case.
func strictly(canonical []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(canonical))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	again, err := envelope.Canonical(v)
	if err != nil || !bytes.Equal(again, canonical) {
		return errors.Join(err, errors.New("fields are missing, or named or typed otherwise"))
	}
	return nil
}

// sides parts the two headers.
func (u *unfinished) sides() (before, after side, _ *fault.Error) {
	previous, err := u.backup(flagPrevious)
	if err != nil {
		return before, after, err
	}
	final, err := u.backup(flagFinal)
	if err != nil {
		return before, after, err
	}
	if before, err = u.side(previous); err != nil {
		return before, after, err
	}
	after, err = u.side(final)
	if err == nil && (before.slot == after.slot || before.digest == after.digest) {
		err = refuse(ruleDigestCoverage, errors.New("one key for both sides"))
	}
	return before, after, err
}

// backup is the one segment with the flag: the whole of the data, as it was or will be.
func (u *unfinished) backup(flag string) (id string, _ *fault.Error) {
	for name, s := range u.Segments {
		if !slices.Contains(s.Flags, flag) {
			continue
		}
		if id != "" || len(s.Flags) != 1 {
			return "", refuse(ruleSegmentFlags, fmt.Errorf("%.64q", s.Flags))
		}
		id = name
	}
	if id == "" {
		return "", refuse(ruleSegmentFlags, fmt.Errorf("no segment is %s", flag))
	}
	return id, nil
}

// side is the header that a backup segment stands for.
func (u *unfinished) side(segmentID string) (s side, _ *fault.Error) {
	for id, d := range u.Digests {
		if !slices.Contains(d.Segments, segmentID) {
			continue
		}
		if s.digest != "" || len(d.Keyslots) != 1 {
			return s, refuse(ruleDigestCoverage, fmt.Errorf("segment %.8q", segmentID))
		}
		s.digest, s.slot = id, d.Keyslots[0]
	}
	var k keyslot
	if err := strictly(u.Keyslots[s.slot], &k); err != nil {
		return s, refuse(ruleKeyslotType, err)
	}
	if k.Type != "luks2" {
		return s, refuse(ruleKeyslotType, fmt.Errorf("%.32q", k.Type))
	}
	tokens, refused := u.tokensOf(s.slot)
	if refused != nil {
		return s, refused
	}
	d := u.Digests[s.digest]
	d.Segments = []string{"0"}
	s.meta = metadata{
		Keyslots: map[string]keyslot{s.slot: k},
		Tokens:   tokens,
		Segments: map[string]segment{"0": u.Segments[segmentID].segment},
		Digests:  map[string]digest{s.digest: d},
		Config:   u.Config.config,
	}
	if s.meta.Segments["0"].Type != "crypt" {
		return s, refuse(ruleSegmentType, nil)
	}
	return s, nil
}

// tokensOf are those bound to the keyslot. There are no others' tokens: the one who
// began this header made sure of that.
func (u *unfinished) tokensOf(slot string) (map[string]json.RawMessage, *fault.Error) {
	found := map[string]json.RawMessage{}
	for id, raw := range u.Tokens {
		var t struct {
			Type     string   `json:"type"`
			Keyslots []string `json:"keyslots"`
		}
		if err := json.Unmarshal(raw, &t); err != nil || t.Type != envelope.TokenType {
			return nil, refuse(ruleTokenForeign, errors.Join(err, fmt.Errorf("type %.64q", t.Type)))
		}
		if slices.Contains(t.Keyslots, slot) {
			found[id] = raw
		}
	}
	return found, nil
}

// pair insists that both tokens are of one data key, so that one passphrase opens
// both keyslots and one MAC key speaks for both.
func (w *work) pair() *fault.Error {
	a, b := w.before.Token, w.after.Token
	switch {
	case a.KeyARN != b.KeyARN, !a.EncryptionContext.Equal(b.EncryptionContext),
		!bytes.Equal(a.WrappedKey, b.WrappedKey), !bytes.Equal(a.Salt, b.Salt), b.Generation != a.Generation+1:
		return refuse(ruleKeyslotTokens, errors.New("the tokens of the two sides are no pair"))
	}
	return nil
}

// both are the two candidates; each speaks only together with the other.
func (w *work) both() []volume.Candidate {
	a, b := w.before, w.after
	a.Also, b.Also = &w.after, &w.before
	return []volume.Candidate{a, b}
}

// checkWork settles all that belongs to neither side: the keyslot with the
// parameters, its area, and its digest, by which cryptsetup itself verifies that
// whoever set them knew both volume keys.
func (u *unfinished) checkWork(before, after side, taken []span) *fault.Error {
	if len(u.Keyslots) != 3 || len(u.Digests) != 3 || len(u.Tokens) != 2 {
		return refuse(ruleKeyslotCount, fmt.Errorf("%d keyslots, %d digests, %d tokens", len(u.Keyslots), len(u.Digests), len(u.Tokens)))
	}
	for id, raw := range u.Keyslots {
		if _, ok := number(id); !ok {
			return refuse(ruleKeyslotCount, fmt.Errorf("keyslot %.32q", id))
		}
		if id == before.slot || id == after.slot {
			continue
		}
		if err := checkWorkKeyslot(raw, taken); err != nil {
			return err
		}
		if err := u.checkWorkDigest(id, before.digest, after.digest); err != nil {
			return err
		}
	}
	if slices.IndexFunc(taken[1:], taken[0].meets) >= 0 {
		return refuse(ruleKeyslotArea, errors.New("areas overlap"))
	}
	return nil
}

func checkWorkKeyslot(raw json.RawMessage, taken []span) *fault.Error {
	var k workKeyslot
	if err := strictly(raw, &k); err != nil {
		return refuse(ruleKeyslotType, err)
	}
	a := k.Area
	k.Area = workArea{}
	if want := (workKeyslot{Type: "reencrypt", KeySize: 1, Mode: "reencrypt", Direction: "forward"}); k != want {
		return refuse(ruleRequirements, fmt.Errorf("%.32q, mode %.32q, direction %.32q", k.Type, k.Mode, k.Direction))
	}
	from, size := decimal(a.Offset), decimal(a.Size)
	at := span{from, from + size}
	switch {
	case a.Type != "checksum" || a.Hash != hash || a.SectorSize != sectorBytes:
		return refuse(ruleKeyslotArea, fmt.Errorf("%.32q, %.32q, %d", a.Type, a.Hash, a.SectorSize))
	case from < metadataBytes || size <= 0 || from%blockBytes != 0 || at.to > headerBytes || slices.ContainsFunc(taken, at.meets):
		return refuse(ruleKeyslotArea, fmt.Errorf("offset %.32q, size %.32q", a.Offset, a.Size))
	}
	return nil
}

func (u *unfinished) checkWorkDigest(slot, before, after string) *fault.Error {
	for id, d := range u.Digests {
		if id == before || id == after {
			continue
		}
		if _, ok := number(id); !ok || !d.formed() {
			return refuse(ruleDigestKind, fmt.Errorf("digest %.8q", id))
		}
		if !slices.Equal(d.Keyslots, []string{slot}) || len(d.Segments) != 0 {
			return refuse(ruleDigestCoverage, fmt.Errorf("keyslots %.64q, segments %.64q", d.Keyslots, d.Segments))
		}
	}
	return nil
}

// stretches are the segments in use, in the order of the data: new, then what was
// being reencrypted, if anything, then old; without a gap, each with the key that
// its place demands, and its sectors counted from the beginning of the data.
func (u *unfinished) stretches(before, after side) (all []stretch, _ *fault.Error) {
	oldID, _ := number(before.digest)
	newID, _ := number(after.digest)
	inUse := len(u.Segments) - 2
	at, phase := int64(0), 0
	for n := range inUse {
		id := strconv.Itoa(n)
		s, ok := u.Segments[id]
		if !ok || n > 0 && all[n-1].to == 0 {
			return nil, refuse(ruleSegmentCount, fmt.Errorf("no segment %d of %d", n, inUse))
		}
		if err := s.fits(at); err != nil {
			return nil, err
		}
		isOld := slices.Contains(u.Digests[before.digest].Segments, id)
		isNew := slices.Contains(u.Digests[after.digest].Segments, id)
		is := stretch{from: at, digest: newID, hot: isOld && isNew}
		place := map[[2]bool]int{{false, true}: 1, {true, true}: 2, {true, false}: 3}[[2]bool{isOld, isNew}]
		if place <= phase || is.hot != slices.Equal(s.Flags, []string{flagHot}) || !is.hot && len(s.Flags) > 0 {
			return nil, refuse(ruleDigestCoverage, fmt.Errorf("segment %d, flags %.64q", n, s.Flags))
		}
		if phase = place; place == 3 {
			is.digest = oldID
		}
		if s.Size != "dynamic" {
			at += decimal(s.Size)
			is.to = at
		}
		all = append(all, is)
	}
	if inUse < 1 || inUse > 3 || u.covered(before.digest)+u.covered(after.digest) != u.expected(all) {
		return nil, refuse(ruleSegmentCount, fmt.Errorf("%d segments", len(u.Segments)))
	}
	return all, nil
}

func (u *unfinished) covered(digest string) int { return len(u.Digests[digest].Segments) }

// expected is how many segments the two digests cover together: the two whole
// ones, each stretch, and what is hot twice.
func (u *unfinished) expected(all []stretch) int {
	n := 2 + len(all)
	for _, s := range all {
		if s.hot {
			n++
		}
	}
	return n
}

// fits reports whether the segment is one of ours that begins at this byte of the data.
func (s workSegment) fits(at int64) *fault.Error {
	size := decimal(s.Size)
	switch {
	case s.Type != "crypt":
		return refuse(ruleSegmentType, fmt.Errorf("%.32q", s.Type))
	case s.Encryption != cipher:
		return refuse(ruleSegmentCipher, fmt.Errorf("%.32q", s.Encryption))
	case s.SectorSize != sectorBytes:
		return refuse(ruleSectorSize, fmt.Errorf("%d", s.SectorSize))
	case s.IVTweak != strconv.FormatInt(at/sectorUnit, 10):
		return refuse(ruleSegmentIV, fmt.Errorf("%.32q", s.IVTweak))
	case s.Offset != strconv.FormatInt(headerBytes+at, 10), s.Size != "dynamic" && (size <= 0 || size%sectorBytes != 0):
		return refuse(ruleSegmentBounds, fmt.Errorf("offset %.32q, size %.32q", s.Offset, s.Size))
	}
	return nil
}

// identity is what stays the same from the beginning to the end.
func (u *unfinished) identity() ([]byte, *fault.Error) {
	fixed := map[string]digest{}
	for id, d := range u.Digests {
		d.Segments = nil
		fixed[id] = d
	}
	b, err := envelope.Canonical(map[string]any{"keyslots": u.Keyslots, "tokens": u.Tokens, "digests": fixed})
	if err != nil {
		return nil, refuse(ruleForm, err)
	}
	return b, nil
}

// ends reports whether the stretches end where the device does.
func (w *work) ends(data int64) bool {
	last := w.stretches[len(w.stretches)-1]
	return last.from < data && (last.to == 0 || last.to == data)
}

// done is how many bytes of the data are under the new key for certain.
func (w *work) done(data int64) int64 {
	first := w.stretches[0]
	switch {
	case first.hot || first.digest != w.newDigest:
		return 0
	case first.to == 0:
		return data
	}
	return first.to
}

// decimal reads a number in its one spelling; -1 is none.
func decimal(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > 1<<50 || strconv.FormatInt(n, 10) != s {
		return -1
	}
	return n
}
