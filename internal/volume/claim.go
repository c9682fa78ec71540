// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// Stage is how far init has come. It exists so that init is safe to repeat
// after a crash: only a volume whose claim says so may have its header or its
// file system written.
type Stage string

// The stages of a claim.
const (
	StageNone       Stage = ""           // never initialised here, nor opened here
	StageHeader     Stage = "header"     // proved blank; the recorded header is going onto the device
	StageFilesystem Stage = "filesystem" // the header is there; nothing was ever stored inside
	StageReady      Stage = "ready"      // holds data, or must be assumed to
)

// Claim is what this host remembers of a volume: little, because phases are
// derived. It is public (nothing in it is secret) and written durably.
type Claim struct {
	Version    int         `json:"version"` // 1
	Name       string      `json:"name"`
	VolumeID   string      `json:"volume_id"`
	LUKSUUID   string      `json:"luks_uuid"`
	Generation int         `json:"generation"` // of the newest token opened or written here
	Binding    string      `json:"binding"`    // CMK and context it was last opened under, hashed; see Spec.Binding
	Stage      Stage       `json:"stage"`
	Wish       Wish        `json:"wish"`       // the operator's standing word
	Quarantine *Quarantine `json:"quarantine"` // nil if sound
	Revocation *Revocation `json:"revocation,omitempty"`
	Making     *Making     `json:"making,omitempty"` // a volume that was ordered and is not in use yet
	Pin        Pin         `json:"pin,omitzero"`
	Rewrap     Rewrap      `json:"rewrap,omitzero"`

	Reencrypt Reencryption `json:"reencrypt,omitzero"`
	VolumeKey string       `json:"volume_key,omitempty"` // the digest of the one that a reencryption gave it; "" if none did
}

// Quarantine is why a volume is left alone until an operator decides.
type Quarantine struct {
	Step   string      `json:"step"`            // what was being done, as in a failure's summary
	Class  fault.Class `json:"class,omitempty"` // "" is integrity
	Reason string      `json:"reason"`
	Cause  string      `json:"cause"`
	Hint   string      `json:"hint"`
	Since  time.Time   `json:"since"`
}

// err is the quarantine as the failure it was.
func (q *Quarantine) err() *fault.Error {
	return &fault.Error{Class: cmp.Or(q.Class, fault.Integrity), Reason: q.Reason, Cause: q.Cause, Hint: q.Hint}
}

const (
	claimVersion  = 1
	claimMaxBytes = 64 << 10
)

// Claims keeps claims and header images in a directory of ours.
type Claims struct{ dir string }

// NewClaims uses dir (mode 0700, made if missing), usually /var/lib/volseal.
func NewClaims(dir string) (*Claims, error) {
	for _, d := range []string{dir, filepath.Join(dir, "claims"), filepath.Join(dir, "headers")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make state directory: %w", err)
		}
	}
	return &Claims{dir: dir}, nil
}

func (c *Claims) path(name string) string {
	return filepath.Join(c.dir, "claims", name+".json")
}

// HeaderImage is where init keeps the header it intends for the volume.
func (c *Claims) HeaderImage(name string) string {
	return filepath.Join(c.dir, "headers", name+".img")
}

// SetAside renames the header images of a volume of this name, if there are any:
// they may be the only copies of the header of a volume that was here before.
func (c *Claims) SetAside(name string) error {
	aside := filepath.Join(c.dir, "headers", fmt.Sprintf("%s.%d", name, time.Now().UnixNano()))
	for from, to := range map[string]string{c.HeaderImage(name): aside + ".img", c.HeaderDir(name): aside} {
		if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Load returns the claim, or a fresh one wishing Mounted if there is none. A
// claim that cannot be read or understood is an error, never "none": it may be
// the only thing that says not to touch the volume.
func (c *Claims) Load(name string) (Claim, error) {
	f, err := os.Open(c.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return Claim{Version: claimVersion, Name: name, Wish: WishMounted}, nil
	}
	if err != nil {
		return Claim{}, c.unreadable(name, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, claimMaxBytes+1))
	if err != nil {
		return Claim{}, c.unreadable(name, err)
	}
	claim, err := decodeClaim(raw)
	if err == nil && claim.Name != name {
		err = fmt.Errorf("it names volume %q", claim.Name)
	}
	if err != nil {
		return Claim{}, c.unreadable(name, err)
	}
	return claim, nil
}

func (c *Claims) unreadable(name string, err error) error {
	return &fault.Error{
		Class:  fault.Misconfigured,
		Reason: "claim-unreadable",
		Cause:  fmt.Sprintf("The claim %s cannot be used: %v.", c.path(name), err),
		Hint:   "Restore the file from a backup. Or, if you are sure that the volume was initialised, move it away: the next unlock records a new one.",
		Err:    err,
	}
}

func decodeClaim(raw []byte) (Claim, error) {
	var claim Claim
	if len(raw) > claimMaxBytes {
		return claim, fmt.Errorf("it is larger than %d bytes", claimMaxBytes)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&claim); err != nil {
		return claim, fmt.Errorf("decode: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return claim, errors.New("text follows the object")
	}
	return claim, claim.validate()
}

func (c Claim) validate() error {
	if c.Version != claimVersion {
		return fmt.Errorf("version %d is not known to this agent", c.Version)
	}
	switch c.Stage {
	case StageNone:
	case StageHeader, StageFilesystem, StageReady:
		if c.VolumeID == "" || c.LUKSUUID == "" {
			return fmt.Errorf("stage %q without volume_id and luks_uuid", c.Stage)
		}
	default:
		return fmt.Errorf("stage %q is not known to this agent", c.Stage)
	}
	switch c.Wish {
	case WishMounted, WishSealed, WishDetached:
	default:
		return fmt.Errorf("wish %q is not known to this agent", c.Wish)
	}
	if err := errors.Join(c.validatePin(), c.Reencrypt.validate()); err != nil || c.Making == nil {
		return err
	}
	if c.Stage != StageNone {
		return fmt.Errorf("stage %q of a volume that is being made", c.Stage)
	}
	return c.Making.validate()
}

// means reports whether two claims lead a boot to the same.
func (c Claim) means(o Claim) bool {
	quarantines := (c.Quarantine == nil) == (o.Quarantine == nil)
	makings := (c.Making == nil) == (o.Making == nil)
	c.Quarantine, o.Quarantine, c.Revocation, o.Revocation, c.Making, o.Making = nil, nil, nil, nil, nil, nil
	return quarantines && makings && c == o
}

// Save makes the claim durable before it returns: temporary file, fsync,
// rename, fsync of the directory.
func (c *Claims) Save(claim Claim) error {
	if err := claim.validate(); err != nil {
		return fmt.Errorf("save claim: %w", err)
	}
	raw, err := json.MarshalIndent(claim, "", "  ")
	if err != nil {
		return fmt.Errorf("save claim: %w", err)
	}
	if err := writeDurably(c.path(claim.Name), append(raw, '\n')); err != nil {
		return &fault.Error{
			Class: fault.Unknown, Reason: "claim-unwritable",
			Cause: fmt.Sprintf("The claim %s cannot be written: %v.", c.path(claim.Name), err),
			Hint:  "Check free space and permissions of /var/lib/volseal.", Err: err,
		}
	}
	return nil
}

func writeDurably(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already after the rename
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
