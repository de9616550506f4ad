package rundir

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// clockFile holds what the wall clock was worth when last looked at.
const clockFile = "clock.json"

// jumpAfter is how far wall clock and uptime may part between two ticks
// before it is a jump. Time daemons slew slower than this, and step above it.
const jumpAfter = 30 * time.Second

// Instant is one look at this machine's clocks.
type Instant struct {
	Wall   time.Time
	Uptime time.Duration // since boot, suspension included; never jumps
	BootID string        // differs after every boot
}

// ReadClocks looks at the machine's clocks.
func ReadClocks() (Instant, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return Instant{}, fmt.Errorf("reading the uptime: %w", err)
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Instant{}, fmt.Errorf("reading the boot id: %w", err)
	}
	return Instant{Wall: time.Now(), Uptime: time.Duration(ts.Nano()), BootID: string(bytes.TrimSpace(id))}, nil
}

// clockRecord remembers the moment of boot by the wall clock, which a jump
// shifts and nothing else does, and how far the wall clock is from adt's own.
type clockRecord struct {
	Version int           `json:"version"`
	BootID  string        `json:"boot_id"`
	Booted  time.Time     `json:"booted"`
	Offset  time.Duration `json:"offset"` // nanoseconds; wall clock minus steady time
}

// Steady returns by how much the wall clock is ahead of the steady time in
// which all ages in the records are reckoned, and by how much it jumped since
// the last tick (0 for none). A clock that is set forward makes no build look
// overdue. Across a boot the wall clock is believed.
func (d *Dir) Steady(now Instant) (offset, jumped time.Duration, err error) {
	var rec clockRecord
	if _, err := d.Read(clockFile, &rec); err != nil {
		return 0, 0, err
	}
	booted := now.Wall.Add(-now.Uptime).Round(0)
	next := clockRecord{Version: Version, BootID: now.BootID, Booted: booted, Offset: rec.Offset}
	if rec.BootID == now.BootID {
		drift := booted.Sub(rec.Booted)
		if drift.Abs() < time.Second {
			return rec.Offset, 0, nil // the common tick writes nothing
		}
		if drift.Abs() > jumpAfter {
			jumped = drift
			next.Offset += drift
		}
	}
	return next.Offset, jumped, d.Write(clockFile, next)
}
