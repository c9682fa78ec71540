// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// keptImages is how many images that nobody uses stay in the cache: enough to
// go back and forth between two branches, each with its two kernels.
const keptImages = 3

// Image is a guest image, held against removal until Close.
type Image struct {
	Key     string
	dir     string
	release func() error
}

// Root is the path of the raw root disk; it must never be written.
func (i *Image) Root() string { return filepath.Join(i.dir, rootFile) }

// Kernel is the path of the kernel.
func (i *Image) Kernel() string { return filepath.Join(i.dir, kernelFile) }

// Initrd is the path of the kernel's initrd, or "".
func (i *Image) Initrd() string {
	path := filepath.Join(i.dir, initrdFile)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// Close lets others remove the image.
func (i *Image) Close() error { return i.release() }

// CacheDir is where images are kept between runs. It may not exist.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache directory: %w", err)
	}
	return filepath.Join(dir, "volseal-lab"), nil
}

// OpenImage takes the guest image with that kernel out of the cache, building it first when it is
// not there. A cache that cannot be used costs time and is logged, no more: the
// image is then built in scratch.
func OpenImage(ctx context.Context, kernel Kernel, cache, scratch string, log *slog.Logger) (*Image, error) {
	r, err := guestRecipe(kernel)
	if err != nil {
		return nil, err
	}
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	build := func(ctx context.Context, dir string) error {
		start := time.Now()
		log.Info("building the guest image, once for this recipe", "key", key, "kernel", string(kernel))
		if err := buildImage(ctx, r, dir); err != nil {
			return err
		}
		log.Info("built the guest image", "key", key, "took", time.Since(start).Round(time.Second))
		return nil
	}
	image, err := openCached(ctx, cache, key, build)
	var unusable *cacheError
	if !errors.As(err, &unusable) {
		return image, err
	}
	log.Warn("image cache is not usable, building without it", "error", err)
	dir := filepath.Join(scratch, "image")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("build guest image: %w", err)
	}
	if err := build(ctx, dir); err != nil {
		return nil, err
	}
	return &Image{Key: key, dir: dir, release: func() error { return os.RemoveAll(dir) }}, nil
}

// cacheError says that the cache itself failed, not what it was to hold.
type cacheError struct{ err error }

func (e *cacheError) Error() string { return "use image cache: " + e.err.Error() }
func (e *cacheError) Unwrap() error { return e.err }

// An entry is the directory KEY beside the file KEY.lock. Who uses the entry
// holds the lock shared, who builds or removes it holds it alone; it is built
// under another name and renamed when complete.

func openCached(ctx context.Context, cache, key string, build func(context.Context, string) error) (*Image, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, &cacheError{err}
	}
	for {
		image, err := useEntry(ctx, cache, key)
		if err != nil || image != nil {
			return image, err
		}
		// Then once more: a lock is not exchanged for a shared one in one step.
		if err := fillEntry(ctx, cache, key, build); err != nil {
			return nil, err
		}
	}
}

// useEntry holds an entry, or returns nil when there is none.
func useEntry(ctx context.Context, cache, key string) (*Image, error) {
	lock, err := lockFile(ctx, filepath.Join(cache, key+".lock"), unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	image := &Image{Key: key, dir: filepath.Join(cache, key), release: lock.Close}
	if _, err := os.Stat(image.dir); err != nil {
		return nil, lock.Close()
	}
	now := time.Now()
	_ = os.Chtimes(image.dir, now, now) // only the order of pruning depends on it
	prune(cache, key)
	return image, nil
}

// fillEntry makes an entry unless another did meanwhile.
func fillEntry(ctx context.Context, cache, key string, build func(context.Context, string) error) error {
	lock, err := lockFile(ctx, filepath.Join(cache, key+".lock"), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	dir := filepath.Join(cache, key)
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	partial := dir + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return &cacheError{err}
	}
	if err := os.Mkdir(partial, 0o755); err != nil {
		return &cacheError{err}
	}
	if err := build(ctx, partial); err != nil {
		_ = os.RemoveAll(partial)
		return err
	}
	if err := os.Rename(partial, dir); err != nil {
		return &cacheError{err}
	}
	return nil
}

// prune removes what is not used and not among the newest, and what an
// interrupted build left. It does what it can: the cache is no place for errors.
func prune(cache, current string) {
	locks, err := filepath.Glob(filepath.Join(cache, "*.lock"))
	if err != nil {
		return
	}
	type entry struct {
		dir  string
		used time.Time
	}
	var entries []entry
	for _, lock := range locks {
		dir := strings.TrimSuffix(lock, ".lock")
		if filepath.Base(dir) == current {
			continue
		}
		e := entry{dir: dir}
		if info, err := os.Stat(dir); err == nil {
			e.used = info.ModTime()
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int { return b.used.Compare(a.used) })
	for i, e := range entries {
		if i >= keptImages || e.used.IsZero() {
			remove(e.dir)
		}
	}
}

// remove deletes an entry unless somebody holds it.
func remove(dir string) {
	path := dir + ".lock"
	lock, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer lock.Close()
	if flock(lock, unix.LOCK_EX|unix.LOCK_NB) != nil || !names(path, lock) {
		return
	}
	_ = os.RemoveAll(dir)
	_ = os.RemoveAll(dir + ".partial")
	// Last, and while it is held: who waits for it notices, and makes another.
	_ = os.Remove(path)
}

// lockFile takes the lock of an entry, waiting for as long as another builds it.
func lockFile(ctx context.Context, path string, how int) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, &cacheError{err}
		}
		locked := make(chan error, 1)
		go func() { locked <- flock(f, how) }()
		select {
		case err = <-locked:
		case <-ctx.Done():
			return nil, ctx.Err() // the waiting thread ends with the process
		}
		if err == nil && names(path, f) {
			return f, nil
		}
		_ = f.Close()
		if err != nil {
			return nil, err
		}
	}
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &cacheError{fmt.Errorf("lock %s: %w", f.Name(), err)}
		}
	}
}

// names reports whether path still leads to the open file: others remove it.
func names(path string, f *os.File) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(opened, named)
}
