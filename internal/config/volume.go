// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/volseal/volseal/internal/envelope"
	"github.com/volseal/volseal/internal/volume"
)

// entry is a volume with where its values stand, for the checks across files.
// A value that was not good is empty in the spec.
type entry struct {
	spec  volume.Spec
	file  string
	lines map[string]int
}

// decodeVolume decodes one file of volumes.d.
func decodeVolume(root value) entry {
	e := entry{file: root.doc.file, spec: volume.Spec{
		Filesystem:           "ext4",
		Attach:               true,
		RequireEBSEncryption: true,
		UnlockTimeout:        15 * time.Minute,
	}}
	e.lines = root.object(volumeFields(&e.spec))
	for _, key := range []string{"name", "database", "key_arn", "mountpoint"} {
		if _, ok := e.lines[key]; !ok {
			root.doc.add(1, key, "is missing", "every volume needs this key")
		}
	}
	return e
}

func volumeFields(s *volume.Spec) []field {
	extra := map[string]string{}
	context := func() {
		if c, err := envelope.NewContext(s.Database, extra); err == nil {
			s.Context = c
		}
	}
	return []field{
		{"name", func(v value) { v.matching(&s.Name, nameForm, "orders (a to z, 0 to 9 and -, at most 32)") }},
		{"database", func(v value) { put(&s.Database)(v.database()); context() }},
		{"volume_id", func(v value) { v.matching(&s.VolumeID, volumeForm, "vol-0123456789abcdef0") }},
		{"key_arn", func(v value) { put(&s.KeyARN)(v.keyARN()) }},
		{"mountpoint", func(v value) { put(&s.Mountpoint)(v.mountpoint()) }},
		{"filesystem", func(v value) { put(&s.Filesystem)(v.oneOf("ext4", "xfs")) }},
		{"mount_options", func(v value) { s.MountOptions = v.mountOptions() }},
		{"encryption_context", func(v value) { v.encryptionContext(extra); context() }},
		{"attach", func(v value) { put(&s.Attach)(v.boolean()) }},
		{"require_ebs_encryption", func(v value) { put(&s.RequireEBSEncryption)(v.boolean()) }},
		{"database_unit", func(v value) { put(&s.DatabaseUnit)(v.unit()) }},
		{"on_revocation", func(v value) { put(&s.OnRevocation)(v.onRevocation()) }},
		{"unlock_timeout", func(v value) { put(&s.UnlockTimeout)(v.duration(time.Second, 24*time.Hour)) }},
	}
}

func (v value) database() (string, bool) {
	s, ok := v.text()
	if !ok {
		return "", false
	}
	if _, err := envelope.NewContext(s, nil); err != nil {
		v.problem(quote(s)+" cannot go into an encryption context: "+reason(err), "use the database's identifier")
		return "", false
	}
	return s, true
}

// encryptionContext adds the operator's pairs to extra, each judged by itself
// so that the problem names the pair.
func (v value) encryptionContext(extra map[string]string) {
	for _, p := range v.pairs() {
		s, ok := p.text()
		if !ok {
			continue
		}
		if _, err := envelope.NewContext("any", map[string]string{p.key: s}); err != nil {
			p.problem(err.Error(), "")
			continue
		}
		extra[p.key] = s
	}
	if _, err := envelope.NewContext("any", extra); err != nil {
		v.problem(err.Error(), "")
	}
}

// reason drops the name of the pair, which the problem's path already says.
func reason(err error) string {
	s := err.Error()
	if i := strings.LastIndex(s, ": "); i >= 0 {
		return s[i+2:]
	}
	return s
}

func (v value) keyARN() (string, bool) {
	s, ok := v.text()
	if !ok {
		return "", false
	}
	if keyARNForm.MatchString(s) {
		return s, true
	}
	example := "a key ARN looks like arn:aws:kms:us-east-1:111111111111:key/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	switch {
	case strings.HasPrefix(s, "alias/"), strings.Contains(s, ":alias/"):
		v.problem(quote(s)+" is an alias: whoever may move it could replace the key",
			"the ARN behind it: "+describeKey(s))
	case keyIDForm.MatchString(s):
		v.problem(quote(s)+" is a key id, not an ARN", "its ARN: "+describeKey(s))
	default:
		v.problem(quote(s)+" is not the ARN of a KMS key", example)
	}
	return "", false
}

// describeKey is a command to paste, so only text that needs no quoting goes into it.
func describeKey(id string) string {
	if strings.ContainsFunc(id, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/:", r)
	}) {
		id = "ALIAS"
	}
	return fmt.Sprintf("aws kms describe-key --key-id %s --query KeyMetadata.Arn --output text", id)
}
