// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/volseal/volseal/internal/fault"
)

// Backup is an image of a header that was sound when it was taken: policy, MAC
// and keyslot had passed, with a live proof.
type Backup struct {
	File       string    `json:"file"`       // its name in the volume's directory
	Generation int       `json:"generation"` // of the token it was judged by
	At         time.Time `json:"at"`         // to the second
}

const (
	// keptBackups are kept of a volume, and the newest of each generation in any case.
	keptBackups = 10
	// keptReplaced headers, set aside by restorations, are kept. They are no backups:
	// nothing says that they are sound, and only a person may remove one.
	keptReplaced = 16

	stampForm = "20060102T150405Z"
)

var (
	backupForm   = regexp.MustCompile(`^g([1-9][0-9]{0,9})-([0-9]{8}T[0-9]{6}Z)\.img$`)
	replacedForm = regexp.MustCompile(`^replaced-[0-9]{8}T[0-9]{6}Z\.img$`)
	imageForm    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
)

func backupName(generation int, at time.Time) string {
	return fmt.Sprintf("g%d-%s.img", generation, at.UTC().Format(stampForm))
}

func parseBackup(file string) (Backup, bool) {
	m := backupForm.FindStringSubmatch(file)
	if m == nil {
		return Backup{}, false
	}
	generation, err := strconv.Atoi(m[1])
	at, terr := time.Parse(stampForm, m[2])
	return Backup{File: file, Generation: generation, At: at}, err == nil && terr == nil
}

// surplus are the backups to be removed. Order is oldest first.
func surplus(backups []Backup) []Backup {
	newest := map[int]string{}
	for _, b := range backups {
		newest[b.Generation] = b.File
	}
	var gone []Backup
	for i, b := range backups {
		if len(backups)-i > keptBackups && newest[b.Generation] != b.File {
			gone = append(gone, b)
		}
	}
	return gone
}

// newestOf is the newest backup of a generation.
func newestOf(backups []Backup, generation int) (Backup, bool) {
	for _, b := range slices.Backward(backups) {
		if b.Generation == generation {
			return b, true
		}
	}
	return Backup{}, false
}

// HeaderDir is where a volume's backups are.
func (c *Claims) HeaderDir(name string) string { return filepath.Join(c.dir, "headers", name) }

// Image is the path of a file in that directory.
func (c *Claims) Image(name, file string) string { return filepath.Join(c.HeaderDir(name), file) }

// Files in a volume's directory that are no backups.
const (
	draftImage    = ".draft"       // being made; nobody's backup yet
	intendedImage = "intended.img" // what a re-wrap is writing onto the device
)

// Backups lists a volume's backups, the oldest first; none is no error.
func (c *Claims) Backups(name string) ([]Backup, error) {
	entries, err := os.ReadDir(c.HeaderDir(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, archiveFault(err)
	}
	var backups []Backup
	for _, e := range entries {
		if b, ok := parseBackup(e.Name()); ok {
			backups = append(backups, b)
		}
	}
	slices.SortFunc(backups, func(a, b Backup) int {
		if d := a.At.Compare(b.At); d != 0 {
			return d
		}
		return a.Generation - b.Generation
	})
	return backups, nil
}

// Draft makes the directory and returns the path for an image that is being made.
func (c *Claims) Draft(name string) (string, error) {
	dir := c.HeaderDir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", archiveFault(err)
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return "", archiveFault(err)
	}
	return filepath.Join(dir, draftImage), nil
}

// Keep makes a draft that was found sound a backup, durably, and removes what is
// too much by then. A draft that is equal to the newest backup of its generation
// adds nothing: that one is returned, and fresh is false.
func (c *Claims) Keep(name, draft string, generation int) (b Backup, fresh bool, removed []string, err error) {
	backups, err := c.Backups(name)
	if err != nil {
		return b, false, nil, err
	}
	if known, ok := newestOf(backups, generation); ok {
		same, err := sameFile(draft, c.Image(name, known.File))
		if err != nil || same {
			return known, false, nil, archiveFault(err)
		}
	}
	b = Backup{Generation: generation, At: time.Now().UTC().Truncate(time.Second)}
	if n := len(backups); n > 0 && !b.At.After(backups[n-1].At) {
		b.At = backups[n-1].At.Add(time.Second) // the order of names is the order in time, whatever the clock did
	}
	b.File = backupName(generation, b.At)
	if err := c.settle(draft, c.Image(name, b.File)); err != nil {
		return b, false, nil, err
	}
	for _, s := range surplus(append(backups, b)) {
		if os.Remove(c.Image(name, s.File)) == nil {
			removed = append(removed, s.File)
		}
	}
	return b, true, removed, nil
}

// SetReplacedAside keeps a draft of what a restoration is about to overwrite.
// Equal to one that is kept already, it adds nothing.
func (c *Claims) SetReplacedAside(name, draft string) (file string, err error) {
	entries, err := os.ReadDir(c.HeaderDir(name))
	if err != nil {
		return "", archiveFault(err)
	}
	kept := 0
	for _, e := range entries {
		if !replacedForm.MatchString(e.Name()) {
			continue
		}
		kept++
		if same, err := sameFile(draft, c.Image(name, e.Name())); err != nil || same {
			return e.Name(), archiveFault(err)
		}
	}
	if kept >= keptReplaced {
		return "", misconfigured("replaced-headers", fmt.Sprintf("%d replaced headers are kept in %s.", kept, c.HeaderDir(name)),
			"Move those replaced-….img away that are not needed any more, and try again.")
	}
	for at := time.Now(); ; at = at.Add(time.Second) {
		file = "replaced-" + at.UTC().Format(stampForm) + ".img"
		_, err := os.Lstat(c.Image(name, file))
		if errors.Is(err, fs.ErrNotExist) {
			return file, c.settle(draft, c.Image(name, file))
		}
		if err != nil { // it would be the same in the next second, and so on
			return "", archiveFault(err)
		}
	}
}

// settle gives a durable file its name.
func (c *Claims) settle(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return archiveFault(err)
	}
	return archiveFault(syncDir(filepath.Dir(to)))
}

// Find is the image that an operator means: a file of that name in the volume's
// directory, or init's own; else the newest backup of the generation, else init's.
func (c *Claims) Find(name, file string, generation int) (path string, err error) {
	inits := c.HeaderImage(name)
	switch {
	case file != "" && !imageForm.MatchString(file):
		return "", misconfigured("image-name", "That is no name of a file in "+c.HeaderDir(name)+".",
			"Copy the image there, and give its name without a directory.")
	case file != "" && file == filepath.Base(inits):
		return c.present(inits)
	case file != "":
		return c.present(c.Image(name, file))
	}
	backups, err := c.Backups(name)
	if err != nil {
		return "", err
	}
	if b, ok := newestOf(backups, generation); ok {
		return c.Image(name, b.File), nil
	}
	if len(backups) > 0 {
		return "", misconfigured("backup-missing", fmt.Sprintf("There is no backup of generation %d in %s.", generation, c.HeaderDir(name)),
			"Those that are there: "+listed(backups)+". Name one with --generation or --from.")
	}
	return c.present(inits) // an installation from before there were backups
}

func (c *Claims) present(path string) (string, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
		return path, nil
	}
	return "", misconfigured("backup-missing", "There is no image "+path+".",
		"Copy the backup that was kept off the host into that directory, and name it with --from. Without any, restore a snapshot of the volume.")
}

func listed(backups []Backup) string {
	names := make([]string, len(backups))
	for i, b := range backups {
		names[i] = b.File
	}
	return strings.Join(names, ", ")
}

// comparedBytes at a time: all volumes of a host may be compared at once.
const comparedBytes = 64 << 10

// sameFile compares two files to the byte.
func sameFile(a, b string) (bool, error) {
	fa, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer fb.Close()
	pa, pb := make([]byte, comparedBytes), make([]byte, comparedBytes)
	for {
		na, ea := io.ReadFull(fa, pa)
		nb, eb := io.ReadFull(fb, pb)
		switch {
		case !ended(ea) || !ended(eb):
			return false, errors.Join(ea, eb)
		case !bytes.Equal(pa[:na], pb[:nb]):
			return false, nil
		case ea != nil:
			return eb != nil, nil
		case eb != nil:
			return false, nil
		}
	}
}

// ended reports whether a read met nothing worse than the end of the file.
func ended(err error) bool {
	return err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func archiveFault(err error) error {
	if err == nil {
		return nil
	}
	return &fault.Error{
		Class: fault.Unknown, Reason: "backup-unwritable", Cause: "A backup of the header could not be kept.",
		Hint: "Check free space and permissions of /var/lib/volseal/headers (0700, root).", Err: err,
	}
}
