// SPDX-License-Identifier: Apache-2.0

package luks

// The one layout this program makes and accepts, in bytes. cryptsetup could
// read others; each that we refuse is one less to be attacked through.
//
//	0       primary header     4 KiB binary, 12 KiB JSON
//	16384   secondary header   the same, newer or older by a crash
//	32768   keyslot areas      room for 64 keyslots, or for an online reencryption
//	16 MiB  data               to the end of the device
const (
	binaryBytes   = 4 << 10
	areaBytes     = 16 << 10 // one header: binary and JSON
	jsonBytes     = areaBytes - binaryBytes
	metadataBytes = 2 * areaBytes
	headerBytes   = 16 << 20 // everything before the data
	keyslotsBytes = headerBytes - metadataBytes

	sectorBytes  = 4096 // of encryption
	sectorUnit   = 512  // of device-mapper tables, sysfs and cryptsetup's --offset
	blockBytes   = 4096 // unit of direct I/O and of a torn write
	keyBytes     = 64   // of the volume key: two AES-256 keys, as XTS wants
	secretBytes  = 32   // of the passphrase
	cipher       = "aes-xts-plain64"
	hash         = "sha256"
	digestBytes  = 32
	saltBytes    = 32
	stripes      = 4000
	stripedBytes = (keyBytes*stripes + blockBytes - 1) / blockBytes * blockBytes // one keyslot's area: 258048

	// kdfIterations is LUKS2's minimum. The passphrase is 256 uniformly random
	// bits, which nobody searches however fast the KDF: a slow one (argon2id: 2.4 s
	// and 1 GiB an unlock) would delay each boot and add no security.
	kdfIterations = 1000
	// maxIterations is accepted from headers: a tenth of a second of work. It leaves
	// room to raise kdfIterations later and none to stall an unlock.
	maxIterations = 100_000
)
