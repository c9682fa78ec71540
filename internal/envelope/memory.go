// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memory is one mapping of its own. It is held as an address, so that nothing
// that walks values by reflection finds bytes to print.
type memory struct {
	at   unsafe.Pointer // atomic; nil once released
	n    int            // bytes in use
	size int            // bytes mapped
}

// allocate prefers memfd_secret, whose pages leave the kernel's direct map too;
// kernels without it (before 5.14, or before 6.5 without secretmem.enable=1) get
// locked anonymous memory.
func allocate(n int) (*memory, error) {
	page := unix.Getpagesize()
	size := (n + page - 1) / page * page
	at, err := mapSecretFile(size)
	if err != nil {
		at, err = mapLocked(size)
	}
	if err != nil {
		return nil, err
	}
	return &memory{at: at, n: n, size: size}, nil
}

// mapSecretFile maps a memfd_secret. The mapping counts against RLIMIT_MEMLOCK,
// is never swapped and never dumped, and stops the machine from hibernating.
func mapSecretFile(size int) (unsafe.Pointer, error) {
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_secret: %w", err)
	}
	defer unix.Close(fd) // the mapping keeps the pages
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, fmt.Errorf("size memfd_secret: %w", err)
	}
	// Shared is the only way to map it; a forked child must not share it.
	return mapAndHarden(fd, size, unix.MAP_SHARED, unix.MADV_DONTFORK)
}

func mapLocked(size int) (unsafe.Pointer, error) {
	return mapAndHarden(-1, size, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, unix.MADV_WIPEONFORK)
}

func mapAndHarden(fd, size, flags, onFork int) (unsafe.Pointer, error) {
	at, err := unix.MmapPtr(fd, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return nil, fmt.Errorf("map secret memory: %w", err)
	}
	b := unsafe.Slice((*byte)(at), size)
	if err := harden(b, fd < 0, onFork); err != nil {
		_ = unix.MunmapPtr(at, uintptr(size))
		return nil, err
	}
	return at, nil
}

func harden(b []byte, lock bool, onFork int) error {
	if lock { // a secretmem mapping is locked from birth
		if err := unix.Mlock(b); err != nil {
			return fmt.Errorf("lock secret memory: %w", err)
		}
	}
	for _, advice := range []int{unix.MADV_DONTDUMP, onFork} {
		if err := unix.Madvise(b, advice); err != nil {
			return fmt.Errorf("advise on secret memory (%d): %w", advice, err)
		}
	}
	return nil
}

func (m *memory) bytes() []byte {
	if m == nil {
		return nil
	}
	at := atomic.LoadPointer(&m.at)
	if at == nil {
		return nil
	}
	return unsafe.Slice((*byte)(at), m.n)
}

// release wipes before it unmaps: whether munmap frees the page at once, and
// what becomes of it, is the kernel's affair.
func (m *memory) release() {
	if m == nil {
		return
	}
	at := atomic.SwapPointer(&m.at, nil)
	if at == nil {
		return
	}
	clear(unsafe.Slice((*byte)(at), m.size))
	_ = unix.MunmapPtr(at, uintptr(m.size))
}
