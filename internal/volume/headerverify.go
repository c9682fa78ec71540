// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/fault"
)

// HeaderReport is what there is to say about the header on a device.
type HeaderReport struct {
	Volume string        `json:"volume"`
	Device string        `json:"device"`
	OK     bool          `json:"ok"`
	Checks []fault.Check `json:"checks"`
}

// HeaderChecks lists the names, in the order of a report.
func HeaderChecks() []string {
	return []string{"primary", "secondary", "copies", "policy", "token", "proof", "mac", "keyslot", "claim", "backup", "mapping"}
}

// VerifyHeader looks at everything that can be told about a header, mounted or
// not, and touches nothing. A header that fails is no error of this call. Errors:
// ErrNoSuchVolume, *ConflictError, *fault.Error.
func (r *Reconciler) VerifyHeader(ctx context.Context, name string) (HeaderReport, error) {
	return ask(ctx, r, name, func(ctx context.Context, w *worker, o observed) (HeaderReport, error) {
		if err := w.reachable(ctx, o); err != nil {
			return HeaderReport{}, err
		}
		w.ports.Keyring.ForgetRefusals(o.spec.KeyARN)
		return w.verifyHeader(ctx, o)
	})
}

func (w *worker) verifyHeader(ctx context.Context, o observed) (HeaderReport, error) {
	r := &HeaderReport{Volume: o.spec.Name, Device: o.device.Path}
	copies, err := w.ports.Archive.Copies(ctx, o.device)
	if err != nil {
		return *r, err
	}
	if o.claim.Reencrypt.Stage == ReencryptBegun && (copies.Primary.Err == nil || copies.Secondary.Err == nil) {
		copies.Differ = nil // cryptsetup may be writing one just now
	}
	r.judgeCopies(copies, "volseal header restore "+o.spec.Name)
	h, err := w.freezeAsClaimed(ctx, o)
	if err != nil && fault.ClassOf(err) != fault.Integrity {
		return *r, err
	}
	defer w.ports.Crypt.Discard(h)
	r.add("policy", h.passed(), err)
	if err == nil {
		w.verifyKey(ctx, o, h, r)
		r.add("claim", "It is the volume that this host knows.", o.expects(h))
		w.verifyBackup(ctx, o, h, r)
		r.judgeMapping(o, h)
	}
	r.finish()
	return *r, ctx.Err()
}

func (h *Header) passed() string {
	if h == nil || h.Unfinished == nil {
		return "It passes every rule."
	}
	u := h.Unfinished
	return fmt.Sprintf("It passes every rule, as the unfinished reencryption that this host knows of: %d of %d MiB are under the new volume key.", u.Done>>20, u.Total>>20)
}

// verifyKey goes from the token to the keyslot, up to the first that fails.
func (w *worker) verifyKey(ctx context.Context, o observed, h *Header, r *HeaderReport) {
	c, err := w.choose(o, h)
	r.add("token", fmt.Sprintf("Generation %d, in keyslot %d, for the pinned CMK and the configured context; %d in all.", c.Token.Generation, c.Keyslot, len(h.Candidates)), err)
	if err != nil {
		return
	}
	proof, err := w.prove(ctx, o.spec, c.Token)
	r.add("proof", "KMS unwraps its data key now.", err)
	if err != nil {
		return
	}
	defer proof.Release()
	tried := false
	err = withKey(c, proof, func(p *envelope.Secret) error {
		r.add("mac", "The header is what was sealed with this data key.", nil)
		tried = true
		return w.ports.Crypt.Try(ctx, h, c.Keyslot, p)
	})
	if !tried {
		r.add("mac", "", err)
		return
	}
	r.add("keyslot", "It opens with the key.", err)
}

// verifyBackup compares the device with the newest backup of its generation.
func (w *worker) verifyBackup(ctx context.Context, o observed, h *Header, r *HeaderReport) {
	if o.claim.Reencrypt.onDevice() {
		r.Checks = append(r.Checks, fault.Skipped("backup", "A header is not backed up while its reencryption is unfinished."))
		return
	}
	file, err := w.compareBackup(ctx, o, h)
	r.add("backup", "The newest backup is equal: "+file, err)
}

func (w *worker) compareBackup(ctx context.Context, o observed, h *Header) (file string, err error) {
	hint := "Once all else is ok, take one: volseal header backup " + o.spec.Name + ". The agent does so by itself while the volume is mounted."
	backups, err := w.ports.Claims.Backups(o.spec.Name)
	if err != nil {
		return "", err
	}
	generation := 0
	for _, c := range h.Candidates {
		generation = max(generation, c.Token.Generation)
	}
	b, ok := newestOf(backups, generation)
	if !ok {
		return "", misconfigured("backup-missing", fmt.Sprintf("There is no backup of generation %d.", generation), hint)
	}
	mark, err := w.ports.Crypt.Fingerprint(ctx, o.device)
	if err != nil {
		return "", err
	}
	printed, err := w.ports.Archive.Print(w.ports.Claims.Image(o.spec.Name, b.File))
	if err == nil && printed != mark {
		err = misconfigured("backup-differs", "The newest backup of its generation, "+b.File+", differs from it.", hint)
	}
	return b.File, err
}

// judgeCopies says of a damaged copy whether the other one is sound.
func (r *HeaderReport) judgeCopies(c HeaderCopies, remedy string) {
	for _, one := range []struct {
		name        string
		this, other HeaderCopy
	}{{"primary", c.Primary, c.Secondary}, {"secondary", c.Secondary, c.Primary}} {
		err := one.this.Err
		if err != nil {
			more := "The other copy is damaged too."
			if one.other.Err == nil {
				more = "The other copy is sound by itself."
			}
			err = integrity(fault.ReasonOf(err), "This copy: "+err.Error()+" "+more, "Put a backup back: "+remedy+". Rule out tampering first.")
		}
		r.add(one.name, fmt.Sprintf("Sound by itself, sequence %d.", one.this.Sequence), err)
	}
	if c.Primary.Err == nil && c.Secondary.Err == nil {
		r.add("copies", "The two copies are equal.", c.Differ)
	}
}

// judgeMapping compares what is open with what is on the disk.
func (r *HeaderReport) judgeMapping(o observed, h *Header) {
	switch {
	case !o.mapping.Present:
		r.Checks = append(r.Checks, fault.Skipped("mapping", "The volume is not open."))
	case o.facts.Mapping == MapUnsound || o.mapping.UUID != h.UUID:
		r.add("mapping", "", integrity("mapping-unsound", "What is open as "+o.spec.Mapping()+" does not belong to this header.",
			"See dmsetup info "+o.spec.Mapping()+". A database that runs on it is the only way to its data: dump it first."))
	default:
		r.add("mapping", "What is open belongs to this header.", nil)
	}
}

// add is a check that succeeded if err is nil.
func (r *HeaderReport) add(name, found string, err error) {
	c := fault.Passed(name, found)
	if err != nil {
		c = fault.Failed(name, err)
	}
	r.Checks = append(r.Checks, c)
}

// finish names what was not checked, puts all in order, and concludes.
func (r *HeaderReport) finish() {
	done := map[string]fault.Check{}
	for _, c := range r.Checks {
		done[c.Name] = c
	}
	r.Checks = nil
	for _, name := range HeaderChecks() {
		c, ok := done[name]
		if !ok {
			c = fault.Skipped(name, "Not checked, because of what failed.")
		}
		r.Checks = append(r.Checks, c)
	}
	r.OK = fault.FirstFailed(r.Checks) == nil
}
