// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func fakeBuild(built *atomic.Int32) func(context.Context, string) error {
	return func(_ context.Context, dir string) error {
		built.Add(1)
		return os.WriteFile(filepath.Join(dir, rootFile), []byte("image"), 0o644)
	}
}

// Two runs that start at once build one image, and both get a whole one.
func TestImageIsBuiltOnce(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "not", "there", "yet")
	var built atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			image, err := openCached(t.Context(), cache, "key", fakeBuild(&built))
			if err != nil {
				t.Error(err)
				return
			}
			if text, err := os.ReadFile(image.Root()); err != nil || string(text) != "image" {
				t.Errorf("image %q, %v", text, err)
			}
			if err := image.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := built.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
}

// A run that uses an image does not keep others from using it.
func TestImageIsShared(t *testing.T) {
	cache := t.TempDir()
	var built atomic.Int32
	for range 3 {
		image, err := openCached(t.Context(), cache, "key", fakeBuild(&built))
		if err != nil {
			t.Fatal(err)
		}
		defer image.Close()
	}
}

// A build that fails leaves nothing that the next run would take for an image.
func TestFailedBuildLeavesNoEntry(t *testing.T) {
	cache := t.TempDir()
	failure := errors.New("no mirror")
	_, err := openCached(t.Context(), cache, "key", func(_ context.Context, dir string) error {
		if err := os.WriteFile(filepath.Join(dir, rootFile), []byte("half"), 0o644); err != nil {
			return err
		}
		return failure
	})
	if !errors.Is(err, failure) {
		t.Fatalf("error %v", err)
	}
	var built atomic.Int32
	image, err := openCached(t.Context(), cache, "key", fakeBuild(&built))
	if err != nil || built.Load() != 1 {
		t.Fatalf("built %d, %v", built.Load(), err)
	}
	_ = image.Close()
}

// Old images go, but never one that another run has open.
func TestPruneSparesWhatIsUsed(t *testing.T) {
	cache := t.TempDir()
	var built atomic.Int32
	open := func(key string, age time.Duration) *Image {
		t.Helper()
		image, err := openCached(t.Context(), cache, key, fakeBuild(&built))
		if err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(image.dir, then, then); err != nil {
			t.Fatal(err)
		}
		return image
	}
	held := open("held", 9*time.Hour)
	defer held.Close()
	for i, key := range []string{"oldest", "older", "old", "newer"} {
		_ = open(key, time.Duration(8-i)*time.Hour).Close()
	}
	stale := filepath.Join(cache, "crashed")
	if err := os.MkdirAll(stale+".partial", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stale+".lock", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_ = open("current", 0).Close()

	want := map[string]bool{"held": true, "oldest": false, "older": true, "old": true, "newer": true, "current": true, "crashed.partial": false, "crashed.lock": false}
	for name, kept := range want {
		if _, err := os.Stat(filepath.Join(cache, name)); (err == nil) != kept {
			t.Errorf("%s: kept %v, want %v", name, err == nil, kept)
		}
	}
}

// A cache that cannot be had is told apart from a build that fails, since only
// then is there a way without it.
func TestUnusableCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var built atomic.Int32
	_, err := openCached(t.Context(), filepath.Join(file, "cache"), "key", fakeBuild(&built))
	var unusable *cacheError
	if !errors.As(err, &unusable) {
		t.Errorf("error %v", err)
	}
}
