// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"slices"

	"github.com/volseal/volseal/internal/fault"
)

// rule names one demand on a header. The names label
// volseal_header_rejections_total and are never renamed.
type rule string

// hintTampered is the advice where nothing but tampering or damage explains it.
const hintTampered = "Do not open this volume by other means. Compare its header with a backup; if it was restored from a snapshot, find out who made that."

// The rules, in the order in which they are checked.
const (
	ruleDeviceSize      rule = "device-size"
	ruleMagic           rule = "header-magic"
	ruleVersion         rule = "header-version"
	ruleAreaSize        rule = "header-area-size"
	ruleHeaderOffset    rule = "header-offset"
	ruleChecksumKind    rule = "header-checksum-kind"
	ruleChecksum        rule = "header-checksum"
	rulePadding         rule = "header-padding"
	ruleUUID            rule = "header-uuid"
	ruleLabel           rule = "header-label"
	ruleCopies          rule = "header-copies"
	ruleJSON            rule = "metadata-json"
	ruleRequirements    rule = "requirements"
	ruleConfigFlags     rule = "config-flags"
	ruleForm            rule = "metadata-form"
	ruleConfig          rule = "config-size"
	ruleSegmentCount    rule = "segment-count"
	ruleSegmentType     rule = "segment-type"
	ruleSegmentFlags    rule = "segment-flags"
	ruleIntegrity       rule = "segment-integrity"
	ruleSegmentCipher   rule = "segment-cipher"
	ruleSegmentBounds   rule = "segment-bounds"
	ruleSectorSize      rule = "segment-sector-size"
	ruleSegmentIV       rule = "segment-iv"
	ruleKeyslotCount    rule = "keyslot-count"
	ruleKeyslotType     rule = "keyslot-type"
	ruleKeyslotPriority rule = "keyslot-priority"
	ruleKeyslotKey      rule = "keyslot-key-size"
	ruleKeyslotCipher   rule = "keyslot-cipher"
	ruleKeyslotArea     rule = "keyslot-area"
	ruleKeyslotAF       rule = "keyslot-af"
	ruleKeyslotKDF      rule = "keyslot-kdf"
	ruleDigestCount     rule = "digest-count"
	ruleDigestKind      rule = "digest-kind"
	ruleDigestCoverage  rule = "digest-coverage"
	ruleTokenForeign    rule = "token-foreign"
	ruleTokenMissing    rule = "token-missing"
	ruleKeyslotTokens   rule = "keyslot-tokens"
	ruleKeyslotUnbound  rule = "keyslot-unbound"
	ruleView            rule = "cryptsetup-view"
	ruleChanged         rule = "header-changed"
	rulePassphrase      rule = "keyslot-passphrase"
	ruleTable           rule = "table"
	ruleBlank           rule = "not-blank"
	ruleReadBack        rule = "read-back"
	ruleFilesystem      rule = "filesystem-present"
)

// refusal is what a rule says to a person.
type refusal struct{ cause, hint string }

const (
	hintOther  = "This volume was not made by volseal, or by another version of it. Check that it is the right one."
	hintDamage = "Rule out tampering. If it is damage, volseal header verify says what is left, and volseal header restore puts a backup back."
)

// refusals holds the text of every rule.
var refusals = map[rule]refusal{
	ruleDeviceSize:      {"The device is too small, or its size is no multiple of 4096 bytes.", hintOther},
	ruleMagic:           {"A LUKS2 header is missing where one belongs.", hintDamage},
	ruleVersion:         {"The header is not LUKS version 2.", hintOther},
	ruleAreaSize:        {"The header's metadata area is not 16 KiB.", hintOther},
	ruleHeaderOffset:    {"A header says that it belongs elsewhere on the disk.", hintTampered},
	ruleChecksumKind:    {"The header's checksum is not SHA-256.", hintTampered},
	ruleChecksum:        {"A header's checksum does not match: it is damaged or was edited.", hintDamage},
	rulePadding:         {"There are data in the header where only zeros belong.", hintTampered},
	ruleUUID:            {"The header's UUID is malformed.", hintTampered},
	ruleLabel:           {"The header has a label or a subsystem, which volseal does not set.", "If you set it with cryptsetup config, set it back to empty."},
	ruleCopies:          {"The two copies of the header differ.", "A write to the header was cut short, or one copy was edited. volseal header verify says which; volseal header restore puts a backup back."},
	ruleJSON:            {"The header's metadata is not strict JSON.", hintTampered},
	ruleRequirements:    {"The header demands features beyond what volseal uses, such as an unfinished reencryption.", "If its host was reencrypting it and is lost, have that go on here, as root: volseal rotate NAME --reencrypt. Else somebody faked one, an old attack: do not open the volume by other means."},
	ruleConfigFlags:     {"The header stores activation flags, which volseal does not set.", "If you stored them with cryptsetup --persistent, clear them; else treat the volume as tampered with."},
	ruleForm:            {"The header's metadata has fields that are unknown, missing or of another type.", hintTampered},
	ruleConfig:          {"The header's areas have other sizes than volseal makes them.", hintOther},
	ruleSegmentCount:    {"The header describes other than exactly one data segment.", hintTampered},
	ruleSegmentType:     {"The header's data segment is not an encrypted one.", hintTampered},
	ruleSegmentFlags:    {"The header's data segment has flags, as a reencryption leaves them.", hintTampered},
	ruleIntegrity:       {"The header's data segment uses an integrity profile, which volseal does not.", hintTampered},
	ruleSegmentCipher:   {"The header's data segment uses another cipher than aes-xts-plain64.", hintTampered},
	ruleSegmentBounds:   {"The header's data segment does not run from 16 MiB to the end of the device.", hintTampered},
	ruleSectorSize:      {"The header's data segment does not use 4096-byte sectors.", hintTampered},
	ruleSegmentIV:       {"The header's data segment shifts the initialisation vectors.", hintTampered},
	ruleKeyslotCount:    {"The header has no keyslot, too many, or one with an impossible number.", hintTampered},
	ruleKeyslotType:     {"The header has a keyslot of a type that volseal does not use.", hintTampered},
	ruleKeyslotPriority: {"A keyslot of the header has a priority, which volseal does not set.", hintTampered},
	ruleKeyslotKey:      {"A keyslot holds a volume key of other than 64 bytes.", hintTampered},
	ruleKeyslotCipher:   {"A keyslot is encrypted with another cipher than aes-xts-plain64.", hintTampered},
	ruleKeyslotArea:     {"A keyslot's area lies outside its bounds or over another one.", hintTampered},
	ruleKeyslotAF:       {"A keyslot is split in another way than volseal does it.", hintTampered},
	ruleKeyslotKDF:      {"A keyslot's key derivation is not pbkdf2 with sha256 within bounds.", hintTampered},
	ruleDigestCount:     {"The header has other than exactly one digest.", hintTampered},
	ruleDigestKind:      {"The header's digest is not pbkdf2 with sha256 within bounds.", hintTampered},
	ruleDigestCoverage:  {"The header's digest does not cover exactly its keyslots and its segment.", hintTampered},
	ruleTokenForeign:    {"A token of the header, not volseal's, is malformed or of a type that cryptsetup itself acts on.", "Remove it if you added it (cryptsetup token remove); else treat the volume as tampered with."},
	ruleTokenMissing:    {"The header holds no token of volseal.", hintOther},
	ruleKeyslotTokens:   {"More tokens of volseal are bound to one keyslot than a rotation needs.", hintTampered},
	ruleKeyslotUnbound:  {"The header has a keyslot that no token of volseal explains.", "Remove it if you added it (cryptsetup luksKillSlot); else treat the volume as tampered with."},
	ruleView:            {"cryptsetup reads the header otherwise than volseal does.", hintTampered},
	ruleChanged:         {"The header on the device is no longer the one that was checked.", "Something wrote to the device meanwhile, or it was exchanged. If a rotation was under way, the next attempt succeeds."},
	rulePassphrase:      {"The keyslot does not open with the key its token gives.", hintDamage},
	ruleTable:           {"The opened mapping is not the one that policy demands; it was closed again.", hintTampered},
	ruleBlank:           {"The volume is not blank: init formats only a volume of which every byte is zero.", "Check that this is the right volume. If its data may go, create a new volume; volseal does not erase one."},
	ruleReadBack:        {"The device did not keep the header that was written to it.", "The device fails. Create a new volume."},
	ruleFilesystem:      {"The volume holds a file system that has been mounted, although this host's claim says that its init is not finished.", "The claim is older than the volume, as after restoring the host from a backup. Nothing was written. To open the volume as it is, stop the agent, move the claim away from /var/lib/volseal/claims, start the agent, and run volseal reattach for the volume."},
}

// Reasons lists every rule by which this package refuses what is on a disk, as
// it appears in fault.Error.Reason. Those of tokens of ours (envelope.ParseToken)
// are apart.
func Reasons() []string {
	names := make([]string, 0, len(refusals))
	for r := range refusals {
		names = append(names, string(r))
	}
	slices.Sort(names)
	return names
}

// refuse blames the disk. detail is for the debug log; it may quote the disk.
func refuse(r rule, detail error) *fault.Error {
	text := refusals[r]
	return &fault.Error{Class: fault.Integrity, Reason: string(r), Cause: text.cause, Hint: text.hint, Err: detail}
}
