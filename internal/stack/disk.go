package stack

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
)

const (
	mebibyte = 1 << 20
	gibibyte = 1 << 30

	leastFree = 100 * mebibyte
)

// storeLimit is how many bytes JetStream may store on a disk with so many bytes
// free, of which it has stored some already. It stays below what the disk holds,
// because a full disk freezes a stream until restart, while at the limit
// JetStream refuses and goes on: of the free space, a tenth is kept, or 1 GiB
// where that is more, but never more than half.
func storeLimit(free, stored uint64) (int64, error) {
	if free < leastFree {
		return 0, fmt.Errorf("only %d MiB of disk are free, at least %d are needed", free/mebibyte, leastFree/mebibyte)
	}
	keep := min(max(free/10, gibibyte), free/2)
	return int64(stored + free - keep), nil //nolint:gosec // no disk has 8 EiB
}

// freeBytes is what an unprivileged process may still write on dir's disk.
func freeBytes(dir string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil //nolint:gosec,unconvert // types differ by system
}

// storedBytes is what the files below dir hold.
func storedBytes(dir string) (uint64, error) {
	var sum uint64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sum += uint64(info.Size()) //nolint:gosec // sizes are not negative
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("add up what %s holds: %w", dir, err)
	}
	return sum, nil
}
